"""Congestion control: NewReno's window (RFC 5681, RFC 6582) with CUBIC's factor (RFC 9438).

The window counts what a network of one-time pads runs short of: key bytes, pad and tag, that the segments in
flight cost on each hop. A loss and a queue's congestion mark (RFC 3168) mean the same, and at most one
reduction is made for the segments that were in flight together. Segments are told apart by the order of
their transmission.
"""

from __future__ import annotations

TAG_BYTES = 16  # one packet's tag on each hop, besides the pad of its key bytes
UNIT_BYTES = 1024  # a full segment's cost, rounded: 25 keys of 32 bytes and the tag are 816
INITIAL_BYTES = 4 * UNIT_BYTES  # low: links of 1 kbit/s carry 125 bytes a second
LOWEST_BYTES = 2 * UNIT_BYTES
HIGHEST_BYTES = 1024 * UNIT_BYTES
DECREASE = 0.7


def segment_cost_bytes(key_bytes: int) -> int:
    """Key spent on each hop for a segment that carries so many bytes of keys."""
    return key_bytes + TAG_BYTES


class Congestion:
    """How many bytes of key cost may be in flight."""

    __slots__ = ("_recovery_order", "_threshold_bytes", "in_flight_bytes", "window_bytes")

    def __init__(self) -> None:
        self.window_bytes: float = INITIAL_BYTES
        self.in_flight_bytes = 0
        self._threshold_bytes: float = HIGHEST_BYTES
        self._recovery_order = 0

    @property
    def free(self) -> bool:
        """Whether another segment may go. The last one may overshoot, so that a large one is never stuck."""
        return self.in_flight_bytes < self.window_bytes

    def sent(self, cost_bytes: int) -> None:
        self.in_flight_bytes += cost_bytes

    def left(self, cost_bytes: int) -> None:
        """A segment is not in flight any more: acknowledged, or held to be lost."""
        self.in_flight_bytes -= cost_bytes

    def acknowledged(self, cost_bytes: int, order: int, window_was_full: bool) -> None:
        """Grow for a segment that arrived: only for one sent after the last reduction, and only if it was
        needed."""
        if order < self._recovery_order or not window_was_full:
            return
        if self.window_bytes < self._threshold_bytes:
            self.window_bytes += cost_bytes
        else:
            self.window_bytes += UNIT_BYTES * cost_bytes / self.window_bytes
        self.window_bytes = min(self.window_bytes, HIGHEST_BYTES)

    def congested(self, order: int, next_order: int) -> None:
        """The segment sent as number `order` was lost or marked; `next_order` is what will be sent next."""
        if order < self._recovery_order:
            return
        self._recovery_order = next_order
        self.window_bytes = max(LOWEST_BYTES, self.window_bytes * DECREASE)
        self._threshold_bytes = self.window_bytes

    def timed_out(self, next_order: int) -> None:
        """Nothing came back for the retransmission time-out: start over with one segment."""
        if self.window_bytes > UNIT_BYTES:
            self._threshold_bytes = max(LOWEST_BYTES, self.window_bytes / 2)
        self.window_bytes = UNIT_BYTES
        self._recovery_order = next_order
