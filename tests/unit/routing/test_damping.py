"""Damping of links that flap."""

from __future__ import annotations

import pytest

from appliance.routing.damping import MOST, REUSE, Damping

HALF_LIFE_S = 15.0


def flap(damping: Damping, times: int, every_s: float, begin_s: float = 0.0) -> list[bool]:
    """Down and up again; what OSPF sees after each."""
    seen = []
    for number in range(times):
        now_s = begin_s + number * every_s
        assert not damping.update(now_s, False), "going down is never delayed"
        seen.append(damping.update(now_s + 0.1, True))
    return seen


@pytest.fixture
def damping() -> Damping:
    made = Damping(HALF_LIFE_S)
    assert made.update(0.0, True)
    return made


def test_two_failures_are_nothing_and_the_third_is_a_flap(damping: Damping) -> None:
    assert flap(damping, 3, 1.0) == [True, True, False]


def test_rare_failures_are_never_damped(damping: Damping) -> None:
    assert all(flap(damping, 100, 2 * HALF_LIFE_S))


def test_it_comes_back_by_itself_within_two_half_lives(damping: Damping) -> None:
    assert not flap(damping, 20, 0.5)[-1]
    back_s = next(s for s in range(1, 100) if damping.update(10 + s, True))
    assert HALF_LIFE_S < back_s <= 2 * HALF_LIFE_S
    assert MOST * 0.5**2 <= REUSE


def test_as_long_as_it_flaps_it_stays_down(damping: Damping) -> None:
    assert not any(flap(damping, 60, 5.0)[3:])


def test_a_link_that_starts_does_not_flap() -> None:
    fresh = Damping(HALF_LIFE_S)
    assert [fresh.update(s, False) for s in range(3)] == [False] * 3
    assert fresh.update(4, True)


def test_without_a_half_life_nothing_is_damped() -> None:
    none = Damping(0.0)
    none.update(0.0, True)
    assert all(flap(none, 100, 0.2))
