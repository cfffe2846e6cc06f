"""What is called a leak, and what is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from . import health
from .health import Health


class OneUnit:
    """In place of a lab: its one unit is this very process, until it is said to be gone."""

    pid: int | None = os.getpid()

    def keeper(self, command: str) -> Any:
        return {"nodes": {"n01": {"keys": {"pid": self.pid, "status": None}}}}

    def last_words(self, node: str, unit: str) -> str:
        return "farewell"


@pytest.fixture
def unit() -> OneUnit:
    return OneUnit()


def judged(unit: OneUnit, monkeypatch: pytest.MonkeyPatch, memory_kib: Callable[[int], int], seconds: int) -> Health:
    """A sample each second; what the unit is said to have."""
    found = Health(unit, warm_up_s=10)  # type: ignore[arg-type]
    for now_s in range(seconds):
        kib = memory_kib(now_s)
        monkeypatch.setattr(health, "of_process", lambda pid, kib=kib: (kib, 4))
        found.sample(now_s, set())
    found.judge()
    return found


GROWTHS: list[tuple[Callable[[int], int], bool]] = [
    (lambda s: 20_000, False),
    (lambda s: 20_000 + 50_000 * (s % 7 == 0), False),  # comes and goes
    (lambda s: 20_000 if s < 5 else 40_000, False),  # while it warms up
    (lambda s: 20_000 + 100 * s, True),
    (lambda s: 20_000 + 40_000 * (s > 100), True),
]


@pytest.mark.parametrize(("memory_kib", "leaks"), GROWTHS)
def test_what_grows_and_stays_is_a_leak(
    unit: OneUnit, monkeypatch: pytest.MonkeyPatch, memory_kib: Callable[[int], int], leaks: bool
) -> None:
    found = judged(unit, monkeypatch, memory_kib, 200)
    assert bool(found.leaks) == leaks and found.judged == 1
    assert not leaks or found.leaks[0].startswith("n01 keys: memory 2")


def test_short_lives_are_not_judged(unit: OneUnit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert judged(unit, monkeypatch, lambda s: 20_000 + 1000 * s, 100).judged == 0


def test_real_figures_are_read(unit: OneUnit) -> None:
    kib, descriptors = health.of_process(os.getpid()) or (0, 0)
    assert kib > 1000 and descriptors >= 3


def test_a_unit_that_ends_unasked_is_told_once_it_is_sure(unit: OneUnit) -> None:
    found = Health(unit, warm_up_s=0)  # type: ignore[arg-type]
    unit.pid = None
    found.sample(1, {("n01", "keys")})
    found.sample(2, {("n01", "keys")})
    assert found.ended == []
    found.sample(3, set())
    assert found.ended == []
    found.sample(4, set())
    found.sample(5, set())
    assert found.ended == ["n01 keys ended unasked: farewell"]
