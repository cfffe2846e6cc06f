"""Deadlines of many owners in one heap, without looking at all of them."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")

_SLACK = 64


class Timers(Generic[T]):
    """One deadline for each owner. A later deadline replaces an earlier one only when that one comes up.

    So an owner may be told too early and must look itself. Deadlines mostly move away, and moving one away
    costs nothing: the owner keeps its earlier entry and sets itself again when it comes up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._times: dict[T, list[float]] = {}  # of each owner's entries, the earliest last
        self._serial = 0

    def set(self, owner: T, deadline: float) -> None:
        times = self._times.setdefault(owner, [])
        if not times or deadline < times[-1]:
            times.append(deadline)
            self._push(deadline, owner)

    def forget(self, owner: T) -> None:
        self._times.pop(owner, None)
        if len(self._heap) > 8 * len(self._times) + _SLACK:
            self._heap = [entry for entry in self._heap if entry[2] in self._times]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap and self._heap[0][2] not in self._times:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[T]:
        """Take the owners with a deadline up to `now`, each once; those that need another must set it."""
        found: dict[T, None] = {}
        while self._heap and self._heap[0][0] <= now:
            _, _, owner = heapq.heappop(self._heap)
            times = self._times.get(owner)
            if times is not None:
                times.pop()
                found[owner] = None
        return list(found)

    def _push(self, deadline: float, owner: T) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (deadline, self._serial, owner))
