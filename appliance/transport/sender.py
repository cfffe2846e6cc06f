"""The sending half of a connection: keys waiting, segments in flight, what is lost, what is confirmed.

A segment is made once and repeated as it was made: the same keys, the same handles, the same numbers.
Confirmed is what the peer acknowledged, cumulatively or selectively; the peer never takes back an
acknowledgement, for it acknowledges what its keys service holds. Three tables share the segments:
    unacknowledged  by first number: all of them
    in_flight       by the order of their latest transmission: those believed to be under way
    lost            by first number: those to be sent again
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from appliance.network.errors import RemoteProtocolError
from appliance.transport.admission import TokenBucket
from appliance.transport.congestion import UNIT_BYTES, Congestion, segment_cost_bytes
from appliance.transport.constants import PACKET_THRESHOLD, PLAUSIBLE_SPAN
from appliance.transport.packet import keys_per_segment
from appliance.transport.rtt import RoundTrip
from appliance.transport.window import unwrap


@dataclass(slots=True, eq=False)
class Sent:
    """One segment of sequence numbers [start, end); without keys it is the FIN."""

    start: int
    end: int
    key_ids: tuple[UUID, ...]
    handles: tuple[int, ...]
    key_length: int
    cost_bytes: int
    order: int = 0
    sent_s: float = 0.0
    times_sent: int = 0


class Sending:
    """One direction of a connection, from its first key number on."""

    def __init__(self, first: int, bucket: TokenBucket | None) -> None:
        self.first = first
        self.next = first  # the next number to give out
        self.acknowledged = first  # all below arrived
        self.edge = first  # the peer's window ends here
        self.unacknowledged: dict[int, Sent] = {}
        self.in_flight: dict[int, Sent] = {}
        self.lost: dict[int, Sent] = {}
        self.congestion = Congestion()
        self.round_trip = RoundTrip()
        self.retransmit_s: float | None = None  # when the time-out runs out
        self.progress_s = 0.0  # when an acknowledgement last brought something, or nothing was waiting for one
        self.queued = 0
        self.fin_sent = False
        self._queues: dict[int, deque[tuple[int, UUID, int]]] = {}  # by key length: (serial, key ID, handle)
        self._serial = 0
        self._bucket = bucket
        self._next_order = 1
        self._highest_acknowledged_order = 0
        self._marks = 0

    def enqueue(self, keys: Sequence[tuple[UUID, int, int]]) -> None:
        for key_id, handle, length in keys:
            self._serial += 1
            self._queues.setdefault(length, deque()).append((self._serial, key_id, handle))
        self.queued += len(keys)

    def unconfirmed(self) -> tuple[UUID, ...]:
        """Every key not confirmed: sent, then waiting."""
        sent = [key_id for segment in self.unacknowledged.values() for key_id in segment.key_ids]
        waiting = [key_id for queue in self._queues.values() for _, key_id, _ in queue]
        return tuple(sent + waiting)

    @property
    def all_acknowledged(self) -> bool:
        return not self.unacknowledged and not self.queued

    @property
    def blocked(self) -> bool:
        """Keys wait, nothing is under way that could bring an answer, and the peer's window is shut."""
        return not self.unacknowledged and self.queued > 0 and self.next >= self.edge

    # -- what the peer says

    def on_window(self, acknowledgement: int, window: int) -> None:
        """The peer takes numbers below acknowledgement + window. What was offered once stays offered."""
        self.edge = max(self.edge, acknowledgement + window)

    def restore(self, acknowledgement: int) -> int:
        """A wire acknowledgement as a whole number; RemoteProtocolError when it acknowledges what was not
        sent."""
        number = unwrap(acknowledgement, self.acknowledged)
        if not max(self.first, self.acknowledged - PLAUSIBLE_SPAN) <= number <= self.next:
            raise RemoteProtocolError("segment-acknowledgement")
        return number

    def on_acknowledgement(self, now: float, acknowledgement: int, spans: Sequence[tuple[int, int]]) -> list[Sent]:
        """Take a restored acknowledgement and wire SACK spans; what they confirm for the first time comes
        back."""
        confirmed = self._take_below(acknowledgement)
        if spans:
            confirmed += self._take_spans(spans)
        self.acknowledged = max(self.acknowledged, acknowledgement)
        if confirmed:
            self._after_progress(now, confirmed)
        return confirmed

    def on_marks(self, marks: int) -> None:
        """The peer counted so many congestion marks."""
        marks = unwrap(marks, self._marks)
        if marks > self._marks:
            self._marks = marks
            self.congestion.congested(self._highest_acknowledged_order, self._next_order)

    def _take_below(self, acknowledgement: int) -> list[Sent]:
        taken = []
        for segment in self.unacknowledged.values():
            if segment.end > acknowledgement:
                break
            taken.append(segment)
        for segment in taken:
            del self.unacknowledged[segment.start]
        return taken

    def _take_spans(self, spans: Sequence[tuple[int, int]]) -> list[Sent]:
        whole = [(unwrap(start, self.acknowledged), unwrap(end, self.acknowledged)) for start, end in spans]
        taken = []
        segments = iter(self.unacknowledged.values())
        segment = next(segments, None)
        for start, end in whole:
            while segment is not None and segment.start < start:
                segment = next(segments, None)
            while segment is not None and segment.end <= end:
                taken.append(segment)
                segment = next(segments, None)
        for segment in taken:
            del self.unacknowledged[segment.start]
        return taken

    def _after_progress(self, now: float, confirmed: list[Sent]) -> None:
        full = self.congestion.in_flight_bytes + UNIT_BYTES >= self.congestion.window_bytes
        newest: Sent | None = None
        for segment in confirmed:
            if self.in_flight.pop(segment.order, None) is None:
                self.lost.pop(segment.start, None)
                continue
            self.congestion.left(segment.cost_bytes)
            self.congestion.acknowledged(segment.cost_bytes, segment.order, full)
            # Karn: of a segment sent twice nobody knows which one is acknowledged
            if segment.times_sent == 1 and (newest is None or segment.order > newest.order):
                newest = segment
        if newest is not None:
            self.round_trip.sample(now - newest.sent_s)
            self._highest_acknowledged_order = max(self._highest_acknowledged_order, newest.order)
            self._detect_losses()
        self.progress_s = now
        self.retransmit_s = now + self.round_trip.timeout_s if self.in_flight else None

    def _detect_losses(self) -> None:
        limit = self._highest_acknowledged_order - PACKET_THRESHOLD
        for order in list(self._orders_up_to(limit)):
            self._lose(order)
            self.congestion.congested(order, self._next_order)

    def _orders_up_to(self, limit: int) -> Iterator[int]:
        for order in self.in_flight:  # in growing order, for every transmission takes the next one
            if order > limit:
                return
            yield order

    def _lose(self, order: int) -> None:
        segment = self.in_flight.pop(order)
        self.congestion.left(segment.cost_bytes)
        self.lost[segment.start] = segment

    # -- time

    def on_time(self, now: float) -> None:
        """The retransmission time-out (RFC 6298 5.4-5.6): all that is under way is held to be lost."""
        if self.retransmit_s is None or now < self.retransmit_s:
            return
        self.retransmit_s = None
        for order in list(self.in_flight):
            self._lose(order)
        self.lost = dict(sorted(self.lost.items()))
        self.round_trip.back_off()
        self.congestion.timed_out(self._next_order)

    def way_changed(self, now: float) -> None:
        """What was lost on the old way is sent again at once, not when a timer that backed off comes up."""
        if self.retransmit_s is not None and self.round_trip.backed_off:
            self.round_trip.forgive()
            self.retransmit_s = now

    def deadline(self, now: float) -> float | None:
        """The retransmission time-out, or when the token bucket lets the next key go."""
        if self._bucket is None or not self.queued or not self.congestion.free or self.next >= self.edge:
            return self.retransmit_s
        ready = self._bucket.ready_at(now, self._oldest_length() * 8)
        return ready if self.retransmit_s is None else min(ready, self.retransmit_s)

    # -- what to send

    def transmit(self, now: float, finish: bool) -> list[Sent]:
        """Segments to send now: lost ones first, then new ones; with `finish` the FIN after the last key."""
        going: list[Sent] = []
        while self.lost and self.congestion.free:
            segment = next(iter(self.lost.values()))
            del self.lost[segment.start]
            going.append(self._send(now, segment))
        while self.queued and self.congestion.free:
            new = self._next_segment(now)
            if new is None:
                break
            going.append(self._send(now, new))
        if finish and not self.queued and not self.fin_sent:
            self.fin_sent = True
            going.append(self._send(now, self._number(1, (), (), 0)))
        return going

    def _oldest_length(self) -> int:
        return min(self._queues, key=lambda length: self._queues[length][0][0])

    def _next_segment(self, now: float) -> Sent | None:
        """As many keys of the size that waited longest as MTU, window and token bucket let through."""
        length = self._oldest_length()
        queue = self._queues[length]
        count = min(len(queue), keys_per_segment(length), self.edge - self.next)
        if self._bucket is not None:
            allowed = 0
            while allowed < count and self._bucket.take(now, length * 8):
                allowed += 1
            count = allowed
        if count <= 0:
            return None
        taken = [queue.popleft() for _ in range(count)]
        if not queue:
            del self._queues[length]
        self.queued -= count
        return self._number(count, tuple([key[1] for key in taken]), tuple([key[2] for key in taken]), length)

    def _number(self, count: int, key_ids: tuple[UUID, ...], handles: tuple[int, ...], length: int) -> Sent:
        cost = segment_cost_bytes(len(key_ids) * length)
        segment = Sent(self.next, self.next + count, key_ids, handles, length, cost)
        self.next += count
        return segment

    def _send(self, now: float, segment: Sent) -> Sent:
        if not self.unacknowledged:
            self.progress_s = now
        segment.order = self._next_order
        segment.sent_s = now
        segment.times_sent += 1
        self._next_order += 1
        self.unacknowledged.setdefault(segment.start, segment)
        self.in_flight[segment.order] = segment
        self.congestion.sent(segment.cost_bytes)
        if self.retransmit_s is None:
            self.retransmit_s = now + self.round_trip.timeout_s
        return segment
