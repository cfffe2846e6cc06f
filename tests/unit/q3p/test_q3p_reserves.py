"""Reserves: who may spend at which level of key, with hysteresis; what a STORE batch must bring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.q3p.reserves import (
    ALL,
    CONTROL_ONLY,
    FINGERPRINT_BYTES,
    STORE_COST_SHARE,
    STORE_ONLY,
    STORE_TAGS_BYTES,
    Marks,
    Reserves,
    StoreState,
    batch_minimum_bytes,
)

MARKS = Marks(store_bytes=100, low_bytes=200, high_bytes=400)


def test_the_life_of_a_store() -> None:
    reserves = Reserves(MARKS)
    steps = [
        (0, False, STORE_ONLY, StoreState.EXHAUSTED),
        (150, False, CONTROL_ONLY, StoreState.EXHAUSTED),
        (250, False, CONTROL_ONLY, StoreState.CHARGING),
        (399, False, CONTROL_ONLY, StoreState.CHARGING),
        (400, True, ALL, StoreState.READY),
        (299, True, ALL, StoreState.LOW),
        (200, True, ALL, StoreState.LOW),
        (199, False, CONTROL_ONLY, StoreState.EXHAUSTED),
        (399, False, CONTROL_ONLY, StoreState.CHARGING),
        (99, False, STORE_ONLY, StoreState.EXHAUSTED),
        (10**9, True, ALL, StoreState.READY),
    ]
    for level, traffic, priority, state in steps:
        reserves.update(level)
        assert (reserves.traffic, reserves.allowed_priority, reserves.state) == (traffic, priority, state), level


@given(st.lists(st.integers(0, 600)))
def test_traffic_only_between_high_and_low(levels: list[int]) -> None:
    reserves = Reserves(MARKS)
    for level in levels:
        before = reserves.traffic
        reserves.update(level)
        assert reserves.traffic == (level >= MARKS.high_bytes or (before and level >= MARKS.low_bytes))
        assert (reserves.allowed_priority == ALL) == reserves.traffic
        assert (reserves.allowed_priority == STORE_ONLY) == (level < MARKS.store_bytes)


@pytest.mark.parametrize("marks", [(2, 1, 3), (1, 3, 2), (1, 1, 2), (-1, 1, 2)])
def test_marks_must_rise(marks: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="rise"):
        Marks(*marks)


@given(st.integers(1, 40))
def test_a_batch_costs_at_most_its_share(blocks: int) -> None:
    cost = STORE_TAGS_BYTES + FINGERPRINT_BYTES * blocks
    assert cost <= STORE_COST_SHARE * (batch_minimum_bytes(blocks) + 1)
