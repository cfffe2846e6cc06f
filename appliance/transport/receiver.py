"""The receiving half of a connection: what arrived, what window is offered, when to acknowledge.

Keys are handed up as they arrive, not in order: they are independent, each under its own ID, and one lost
packet must not hold back the others. So nothing is stored here but numbers.
"""

from __future__ import annotations

from appliance.network.errors import RemoteProtocolError
from appliance.transport.constants import ACK_DELAY_S, MAX_WINDOW_KEYS, PLAUSIBLE_SPAN, WINDOW_KEYS
from appliance.transport.packet import MAX_SACK_RANGES
from appliance.transport.window import Arrival, Received, unwrap

_SMALL_WINDOW_KEYS = 32  # a sender told of so little may be waiting for more


class Receiving:
    """One direction of a connection, from its first key number on."""

    def __init__(self, first: int) -> None:
        self.received = Received(first)
        self.marks = 0
        self.fin_at: int | None = None
        self.acknowledge_s: float | None = None  # when an acknowledgement is due
        self._rolling = True
        self._edge = first
        self._last_acknowledgement_s = float("-inf")
        self._told_edge = first
        self._marks_told = 0

    # -- window

    @property
    def window(self) -> int:
        """Numbers from received.next on that will be taken. What was offered once stays offered (RFC 9293
        3.8.6)."""
        if self._rolling:
            self._edge = max(self._edge, self.received.next + WINDOW_KEYS)
        return max(0, min(MAX_WINDOW_KEYS, self._edge - self.received.next))

    def set_window(self, now: float, keys: int | None) -> None:
        """Offer `keys` more than arrived and then no more; None: the window moves along by itself."""
        self._rolling = keys is None
        if keys is not None:
            self._edge = max(self._edge, self.received.next + self.received.above + keys)
        told = self._told_edge - self.received.next
        if told < _SMALL_WINDOW_KEYS and self.window > told:
            self.acknowledge_s = now

    # -- arrival

    def on_keys(self, now: float, sequence: int, count: int, marked: bool) -> bool:
        """Whether the segment's keys are new. RemoteProtocolError for one outside the window or out of
        shape."""
        start = unwrap(sequence, self.received.next)
        end = start + count
        if start < self.received.next - PLAUSIBLE_SPAN:
            raise RemoteProtocolError("segment-sequence")
        if end > self.received.next + self.window or (self.fin_at is not None and end > self.fin_at):
            raise RemoteProtocolError("segment-window")
        return self._note(now, start, end, marked)

    def on_fin(self, now: float, sequence: int) -> None:
        """The peer's last number. Its keys may still be missing; `finished` says when not."""
        start = unwrap(sequence, self.received.next)
        below = self.received.spans[-1][1] if self.received.spans else self.received.next
        repeated = self.fin_at == start
        if not repeated and (self.fin_at is not None or not below <= start <= self.received.next + PLAUSIBLE_SPAN):
            raise RemoteProtocolError("segment-sequence")
        self.fin_at = start
        self._note(now, start, start + 1, False)
        self._due(now, urgent=not repeated)

    @property
    def finished(self) -> bool:
        return self.fin_at is not None and self.received.next > self.fin_at

    def _note(self, now: float, start: int, end: int, marked: bool) -> bool:
        arrival = self.received.add(start, end)
        if arrival is Arrival.OVERLAP:
            raise RemoteProtocolError("segment-overlap")
        if marked:
            self.marks += 1
        first_mark = marked and self.marks == self._marks_told + 1
        self._due(now, urgent=arrival is Arrival.EDGE or first_mark)
        return arrival is not Arrival.DUPLICATE

    # -- acknowledgement

    def ask(self, now: float) -> None:
        """The peer wants to hear from us."""
        self._due(now, urgent=True)

    def _due(self, now: float, urgent: bool) -> None:
        when = now if urgent else max(now, self._last_acknowledgement_s + ACK_DELAY_S)
        if self.acknowledge_s is None or when < self.acknowledge_s:
            self.acknowledge_s = when

    @property
    def needs_control(self) -> bool:
        """A KEY segment's header cannot say it all: there are gaps, or marks to tell."""
        return bool(self.received.spans) or self.marks != self._marks_told

    def spans(self) -> tuple[tuple[int, int], ...]:
        """What to acknowledge selectively, lowest first."""
        return tuple(self.received.spans[:MAX_SACK_RANGES])

    def acknowledged(self, now: float, by_control: bool) -> None:
        """A segment with our acknowledgement goes out."""
        self._told_edge = self.received.next + self.window
        if self.needs_control and not by_control:
            return
        self._marks_told = self.marks
        self._last_acknowledgement_s = now
        self.acknowledge_s = None
