"""One QKDTL connection: set-up, close, timers; the two halves are in sender.py and receiver.py.

Set-up takes three segments. Each end draws a random 64-bit tag for this one connection; its sequence numbers
begin at the tag's low half. SYN brings the first tag, SYN|ACK the second and returns the first, and any
segment that proves knowledge of the second ends the set-up. So an old SYN opens nothing: its sender gets its
old tag returned, does not know it, and resets.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.transport import packet
from appliance.transport.admission import Qos, TokenBucket
from appliance.transport.constants import (
    GIVE_UP_S,
    HALF_OPEN_S,
    LINGER_S,
    MAX_QUEUED_KEYS,
    PLAUSIBLE_SPAN,
)
from appliance.transport.events import (
    Accepted,
    Closed,
    CloseReason,
    KeysArrived,
    KeysConfirmed,
    KeysLost,
    Opened,
)
from appliance.transport.outgoing import Outgoing, wrap
from appliance.transport.owner import Owner, UnknownConnection
from appliance.transport.packet import Segment
from appliance.transport.receiver import Receiving
from appliance.transport.sender import Sending, Sent
from appliance.transport.silence import Silence
from appliance.transport.states import HALF_OPEN, OVER, SENDS_FIN, WRITABLE, Cause, State, follow
from appliance.transport.window import unwrap


class Connection:
    """Made by Endpoint.connect or given by Accepted; compared by identity.

    After any call here, collect endpoint.events() and then endpoint.outgoing().
    """

    def __init__(
        self,
        owner: Owner,
        now: float,
        local_port: int,
        remote: IPv4Address,
        remote_port: int,
        qos: Qos,
        active: bool,
        tag: int,
        window: int | None,
    ) -> None:
        self.local_port = local_port
        self.remote = remote
        self.remote_port = remote_port
        self.qos = qos
        self.active = active  # this end asked for the connection
        self.state = State.CLOSED
        self.tag = tag
        self.peer_tag = 0
        bucket = TokenBucket(qos.rate_bps, max(1, qos.burst_bits), now) if qos.rate_bps else None
        self._owner = owner
        self._window = window
        self._sending = Sending((tag & 0xFFFFFFFF) + 1, bucket)
        self._receiving = Receiving(0)
        self._close_wanted = False
        self.warned_s: float | None = None  # when the network last said that nothing gets to the far end
        self.announced = active  # whether the owner knows of the connection, and so must learn of its end
        self._born_s = now
        self._syn_s: float | None = None  # when to send (again) our SYN or SYN|ACK
        self._syns = 0
        self._silence = Silence(now, active)
        self._linger_s = 0.0

    # -- the user's side

    @property
    def writable(self) -> bool:
        """send_keys would send: set up or being set up, and neither end has begun to close."""
        return self.state in WRITABLE and not self._close_wanted

    @property
    def room(self) -> int:
        """How many keys send_keys takes now."""
        return MAX_QUEUED_KEYS - self._sending.queued if self.writable else 0

    def send_keys(self, now: float, keys: Sequence[tuple[UUID, int, int]]) -> None:
        """Queue keys: (key ID, handle, length in bytes). Each gets one KeysConfirmed or KeysLost.

        When the far end has begun to close, or the connection died, they come back as KeysLost. Raises
        LocalProtocolError when this end closed, when there are more than `room`, or when a length is 0 or
        does not fit the MTU.
        """
        if self._close_wanted:
            raise LocalProtocolError("keys sent after close")
        for key_id, _, length in keys:
            if not 0 < length <= packet.LONGEST_KEY_BYTES:
                raise LocalProtocolError(f"key {key_id}: 1..{packet.LONGEST_KEY_BYTES} bytes, not {length}")
        if not self.writable:
            self._lose(tuple(key_id for key_id, _, _ in keys))
            return
        if len(keys) > self.room:
            raise LocalProtocolError(f"{len(keys)} keys, room for {self.room}")
        self._sending.enqueue(keys)
        self._owner.touch(self, now)

    def set_window(self, now: float, keys: int | None) -> None:
        """How many further keys this end will take; not refilled by itself; 0 stops the peer.

        What was offered once stays offered (at first: as connect or listen said), so a smaller number takes
        effect as keys arrive. None, the default: the window moves along with what arrives.
        """
        self._window = keys
        if self.state not in HALF_OPEN and self.state not in OVER:
            self._receiving.set_window(now, keys)
            self._owner.touch(self, now)

    def close(self, now: float) -> None:
        """Orderly: what is queued is still delivered, then FIN. Ends with Closed. Idempotent."""
        if self._close_wanted or self.state in OVER:
            return
        self._close_wanted = True
        if self.state is State.ESTABLISHED:
            self.state = follow(self.state, Cause.CLOSE)
        self._owner.touch(self, now)

    def abort(self, now: float) -> None:
        """At once: RST to the peer, KeysLost for what is unconfirmed, Closed(ABORTED). Idempotent."""
        if self.state not in OVER:
            self._fail(CloseReason.ABORTED)
            self._owner.touch(self, now)

    # -- set-up

    def begin(self, now: float) -> None:
        """Ask for the connection."""
        self.state = follow(self.state, Cause.CONNECT)
        self._syn_s = now
        self._owner.touch(self, now)

    def begin_from(self, now: float, syn: Segment) -> None:
        """A SYN came: be half-open until our tag is returned."""
        self.state = follow(self.state, Cause.SYN)
        self._know_peer(now, syn, self._sending.first)
        self._syn_s = now
        self._owner.touch(self, now)

    def _know_peer(self, now: float, segment: Segment, acknowledgement: int) -> None:
        self.peer_tag = segment.sender_tag
        self._receiving = Receiving(segment.sequence + 1)
        self._receiving.set_window(now, self._window)
        self._receiving.acknowledge_s = None
        self._sending.on_window(acknowledgement, segment.window)

    def _on_answer(self, now: float, segment: Segment) -> None:
        """In SYN_SENT: the peer's SYN|ACK, or its own SYN when both asked at once."""
        if segment.flags == packet.SYN:
            self.begin_from(now, segment)
            return
        expected = self._sending.first & 0xFFFFFFFF
        returned = segment.receiver_tag == self.tag and segment.acknowledgement == expected
        if segment.flags != packet.SYN_ACK or not returned:
            raise UnknownConnection("segment-tag")
        self._know_peer(now, segment, self._sending.first)
        if self._syns == 1:
            self._sending.round_trip.sample(now - self._born_s)
        self._establish(now)
        self._receiving.ask(now)

    def _establish(self, now: float) -> None:
        self.state = follow(self.state, Cause.TAG_RETURNED)
        self._syn_s = None
        self.announced = True
        self._silence.heard(now)
        self._owner.happened(Opened(self) if self.active else Accepted(self))
        if self._close_wanted:
            self.state = follow(self.state, Cause.CLOSE)

    # -- what comes

    def receive(self, now: float, segment: Segment, handles: Sequence[int], marked: bool) -> None:
        """One segment for these addresses and ports. RemoteProtocolError when it is dropped."""
        if segment.flags == packet.RST:
            self._on_reset(segment)
        elif self.state is State.SYN_SENT:
            self._on_answer(now, segment)
        elif segment.flags == packet.SYN:
            self._on_syn_again(now)
        else:
            self._on_segment(now, segment, handles, marked)
        self._owner.touch(self, now)

    def _on_syn_again(self, now: float) -> None:
        """Ours repeated, or one that another life of the peer sends or once sent: show it our tags."""
        if self.state is State.SYN_RECEIVED:
            self._syn_s = now
        else:
            self._receiving.ask(now)

    def _on_segment(self, now: float, segment: Segment, handles: Sequence[int], marked: bool) -> None:
        has_keys = segment.flags == packet.KEY
        if not has_keys and (segment.sender_tag != self.peer_tag or segment.receiver_tag != self.tag):
            raise UnknownConnection("segment-tag")
        acknowledgement = self._sending.restore(segment.acknowledgement)
        new = has_keys and self._receiving.on_keys(now, segment.sequence, len(segment.key_ids), marked)
        if segment.flags == packet.FIN:
            self._receiving.on_fin(now, segment.sequence)
        elif segment.flags in (packet.PROBE, packet.SYN_ACK):
            self._receiving.ask(now)
        if self.state is State.SYN_RECEIVED:
            self._establish(now)
        self._silence.heard(now)
        self._on_acknowledgement(now, acknowledgement, segment)
        if new:
            keys = tuple(
                [(key, handle, segment.key_length) for key, handle in zip(segment.key_ids, handles, strict=True)]
            )
            self._owner.happened(KeysArrived(self, keys))
        self._advance_close(now)
        if has_keys and not new:
            raise RemoteProtocolError("segment-duplicate")

    def _on_acknowledgement(self, now: float, acknowledgement: int, segment: Segment) -> None:
        self._sending.on_window(acknowledgement, segment.window)
        confirmed = self._sending.on_acknowledgement(now, acknowledgement, segment.sack)
        key_ids = tuple([key_id for sent in confirmed for key_id in sent.key_ids])
        if key_ids:
            self._owner.happened(KeysConfirmed(self, key_ids))
        if segment.marks is not None:
            self._sending.on_marks(segment.marks)

    def _advance_close(self, now: float) -> None:
        if self.state in SENDS_FIN and self._sending.fin_sent and self._sending.all_acknowledged:
            self.state = follow(self.state, Cause.FIN_ACKNOWLEDGED)
        if self._receiving.finished and self.state in (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2):
            self.state = follow(self.state, Cause.FIN)
        if self.state in OVER and self.announced:
            self.announced = False
            self._linger_s = now + LINGER_S
            self._owner.happened(Closed(self, CloseReason.CLOSED))
        if self.state is State.CLOSED:
            self._owner.gone(self)

    def _on_reset(self, segment: Segment) -> None:
        if not self._believes_reset(segment):
            raise RemoteProtocolError("segment-reset")
        if self.state is State.LAST_ACK and not self._sending.unconfirmed():
            self._end(CloseReason.CLOSED)  # the peer has forgotten us after its own end was done
        else:
            self._end(CloseReason.REFUSED if segment.refused else CloseReason.RESET)

    def _believes_reset(self, segment: Segment) -> bool:
        """By tags; or, answering a KEY segment, which has none, by both sequence numbers."""
        if self.state is State.SYN_SENT:
            return segment.receiver_tag == self.tag
        if self.state is State.SYN_RECEIVED:
            return segment.sender_tag == self.peer_tag  # it may not have learned ours
        if segment.sender_tag or segment.receiver_tag:
            return (segment.sender_tag, segment.receiver_tag) == (self.peer_tag, self.tag)
        behind = self._receiving.received.next - unwrap(segment.sequence, self._receiving.received.next)
        acknowledgement = unwrap(segment.acknowledgement, self._sending.acknowledged)
        plausible = self._sending.acknowledged - PLAUSIBLE_SPAN <= acknowledgement <= self._sending.next
        return 0 <= behind <= PLAUSIBLE_SPAN and plausible

    def unreachable(self, sequence: int) -> bool:
        """The network could not deliver our segment `sequence`. Only a set-up ends by it: routes heal."""
        if self.state is not State.SYN_SENT or sequence != self.tag & 0xFFFFFFFF:
            return False
        self._end(CloseReason.UNREACHABLE)
        return True

    # -- the end

    def _fail(self, reason: CloseReason) -> None:
        if self.state is not State.TIME_WAIT:
            self._owner.send_now(self._control(packet.RST))
        self._end(reason)

    def _end(self, reason: CloseReason) -> None:
        self._lose(self._sending.unconfirmed())
        self.state = follow(self.state, Cause.END)
        if self.announced:
            self.announced = False
            self._owner.happened(Closed(self, reason))
        self._owner.gone(self)

    def _lose(self, key_ids: tuple[UUID, ...]) -> None:
        if key_ids:
            self._owner.happened(KeysLost(self, key_ids))

    # -- time

    def deadline(self, now: float) -> float:
        """When on_time is next needed."""
        if self.state is State.TIME_WAIT:
            times = [self._linger_s, self._receiving.acknowledge_s]
        elif self.state in HALF_OPEN:
            times = [self._set_up_limit(), self._syn_s]
        else:
            give_up = self._sending.progress_s + GIVE_UP_S if self._sending.unacknowledged else None
            times = [self._silence.probe_s, self._receiving.acknowledge_s, self._sending.deadline(now), give_up]
        return min(time for time in times if time is not None)

    def on_time(self, now: float) -> None:
        """Let the timers fire that are due."""
        if self.state is State.TIME_WAIT:
            if now >= self._linger_s:
                self._end(CloseReason.CLOSED)
        elif self.state in HALF_OPEN:
            if now >= self._set_up_limit():
                self._fail(CloseReason.TIMEOUT)  # the other end may stand already, and should know
        elif self.state is not State.CLOSED:
            self._on_time_established(now)
        self._owner.touch(self, now)

    def way_changed(self, now: float) -> None:
        """Packets may go another way from now on."""
        if self.state in HALF_OPEN and self._sending.round_trip.backed_off:
            self._sending.round_trip.forgive()
            self._syn_s = now
        elif self.state not in (*HALF_OPEN, State.TIME_WAIT, State.CLOSED):
            self._sending.way_changed(now)
        self._owner.touch(self, now)

    def _set_up_limit(self) -> float:
        return self._born_s + (GIVE_UP_S if self.active else HALF_OPEN_S)

    def _on_time_established(self, now: float) -> None:
        self._sending.on_time(now)
        unanswered = self._sending.unacknowledged and now >= self._sending.progress_s + GIVE_UP_S
        if unanswered or self._silence.over(now):
            self._fail(CloseReason.TIMEOUT)
        else:
            self._silence.on_time(now, self._sending.round_trip.timeout_s)

    # -- what goes

    def emit(self, now: float) -> list[Outgoing]:
        """The packets to send now."""
        if self.state is State.CLOSED:
            return []
        if self.state in HALF_OPEN:
            return self._emit_syn(now)
        going = [self._sent_packet(now, sent) for sent in self._sending.transmit(now, self.state in SENDS_FIN)]
        if self._sending.blocked:
            self._silence.blocked(now, self._sending.round_trip.timeout_s)
        due = self._receiving.acknowledge_s
        if self._silence.probe_wanted or (due is not None and due <= now):
            going.append(self._control(packet.PROBE if self._silence.probe_wanted else packet.ACK))
            self._silence.probe_wanted = False
            self._receiving.acknowledged(now, by_control=True)
        return going

    def _emit_syn(self, now: float) -> list[Outgoing]:
        if self._syn_s is None or now < self._syn_s:
            return []
        if self._syns:
            self._sending.round_trip.back_off()
        self._syns += 1
        self._syn_s = now + self._sending.round_trip.timeout_s
        return [self._control(packet.SYN if self.state is State.SYN_SENT else packet.SYN_ACK)]

    def _sent_packet(self, now: float, sent: Sent) -> Outgoing:
        if not sent.key_ids:
            self._receiving.acknowledged(now, by_control=True)
            return self._control(packet.FIN, sent.start)
        segment = self._segment(packet.KEY, sent.start)
        segment.key_length = sent.key_length
        segment.key_id_bytes = b"".join([key_id.bytes for key_id in sent.key_ids])
        self._receiving.acknowledged(now, by_control=False)
        return self._packet(segment, sent.handles)

    def _control(self, flags: int, sequence: int | None = None) -> Outgoing:
        """A segment without keys: tags, and the options that fit."""
        segment = self._segment(flags, self._sending.next if sequence is None else sequence)
        segment.sender_tag, segment.receiver_tag = self.tag, self.peer_tag
        if flags in (packet.SYN, packet.SYN_ACK):
            segment.sequence = self.tag & 0xFFFFFFFF
            segment.qos = self.qos if flags == packet.SYN else None
        elif flags != packet.RST:
            segment.sack = self._receiving.spans()
            segment.marks = self._receiving.marks or None
        return self._packet(segment, ())

    def _segment(self, flags: int, sequence: int) -> Segment:
        next_number = self._receiving.received.next
        window = self._receiving.window
        return Segment(self.local_port, self.remote_port, sequence, next_number, flags, window)

    def _packet(self, segment: Segment, handles: tuple[int, ...]) -> Outgoing:
        return wrap(int(self._owner.address), int(self.remote), segment, handles, self.qos.priority)
