"""Sequence numbers, and the set of those that arrived.

Inside the endpoint sequence numbers are plain growing integers; only the wire has 32 bits. `unwrap` restores
a wire number by what it must be near to, so every comparison in the connection is an ordinary one.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import Enum, auto

MODULUS = 1 << 32


def unwrap(number: int, near: int) -> int:
    """The integer nearest to `near` whose low 32 bits are `number`. May be negative for wild numbers."""
    return near + (number - near + MODULUS // 2) % MODULUS - MODULUS // 2


class Arrival(Enum):
    """What adding a span did."""

    NEXT = auto()  # it is the next one expected, and no gap is or was open
    EDGE = auto()  # a gap opened, shrank or closed: worth telling the sender at once
    BEYOND = auto()  # it prolonged what lies above a gap that the sender knows of
    DUPLICATE = auto()  # all of it was here
    OVERLAP = auto()  # a part of it was here: no correct sender does that, for segments are repeated as they were


class Received:
    """Which numbers arrived: all below `next`, and `spans`, disjoint [start, end) above it in growing
    order."""

    __slots__ = ("next", "spans")

    def __init__(self, first: int) -> None:
        self.next = first
        self.spans: list[tuple[int, int]] = []

    @property
    def above(self) -> int:
        """How many numbers arrived beyond the first gap."""
        return sum(end - start for start, end in self.spans)

    def add(self, start: int, end: int) -> Arrival:
        """Note that [start, end), not empty, arrived. Unchanged by DUPLICATE and OVERLAP."""
        if start == self.next and not self.spans:
            self.next = end
            return Arrival.NEXT
        if start < self.next:
            return Arrival.DUPLICATE if end <= self.next else Arrival.OVERLAP
        return self._add_above(start, end)

    def _add_above(self, start: int, end: int) -> Arrival:
        spans = self.spans
        at = bisect_left(spans, (start, end))
        before = spans[at - 1] if at else (self.next, self.next)
        after = spans[at] if at < len(spans) else None
        if before[1] > start or (after is not None and after[0] < end):
            inside = before[1] >= end or (after is not None and after[0] <= start and end <= after[1])
            return Arrival.DUPLICATE if inside else Arrival.OVERLAP
        joins_before = bool(at) and before[1] == start
        joins_after = after is not None and after[0] == end
        low = before[0] if joins_before else start
        high = after[1] if after is not None and joins_after else end
        spans[at - joins_before : at + joins_after] = [(low, high)]
        if spans[0][0] == self.next:
            self.next = spans.pop(0)[1]
            return Arrival.EDGE
        return Arrival.BEYOND if joins_before and at == len(spans) and not joins_after else Arrival.EDGE
