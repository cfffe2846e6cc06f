"""QKDTL of one node: all its connections, told apart by address and ports; listeners; answers to strangers.

Owner's loop: receive() for what came, tick(now) when deadline() has passed, then events() and after it
outgoing().
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from appliance.network import icmp
from appliance.network import packet as network
from appliance.network.address import is_node
from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.transport import packet
from appliance.transport.admission import Admission, PathRate, Qos, TokenBucket
from appliance.transport.connection import Connection
from appliance.transport.constants import (
    MAX_CONNECTIONS,
    MAX_HALF_OPEN,
    MAX_HALF_OPEN_PER_NODE,
    MAX_RESETS_WAITING,
    RESETS_PER_S,
)
from appliance.transport.events import Closed, Discard, Event, KeysArrived
from appliance.transport.outgoing import Outgoing, wrap
from appliance.transport.owner import UnknownConnection
from appliance.transport.packet import Segment
from appliance.transport.states import State
from appliance.transport.timers import Timers

__all__ = ["Endpoint", "Outgoing"]

FIRST_DRAWN_PORT = 49_152
_DRAWS = 64

_Name = tuple[int, IPv4Address, int]  # local port, remote address, remote port


class Endpoint:
    """All QKDTL connections of the node at `address`.

    outgoing() acknowledges only keys whose KeysArrived events() has already handed over: while some wait, it
    sends nothing. `random(n)` returns n random bytes. `path_rate` gives the advertised key bit/s to a node,
    None if unknown; without it rates are not checked at connect. `now` is monotonic, in seconds.
    """

    def __init__(self, address: IPv4Address, random: Callable[[int], bytes], path_rate: PathRate | None = None) -> None:
        self.address = address
        self.dropped: Counter[str] = Counter()  # packets dropped, by reason
        self._random = random
        self._admission = Admission(path_rate) if path_rate is not None else None
        self._listening: dict[int, int | None] = {}
        self._connections: dict[_Name, Connection] = {}
        self._events: list[Event] = []
        self._untaken = False  # a KeysArrived waits to be handed over
        self._touched: dict[Connection, None] = {}  # may have something to send
        self._replies: list[Outgoing] = []
        self._reset_budget = TokenBucket(RESETS_PER_S, RESETS_PER_S, 0.0)
        self._timers: Timers[Connection] = Timers()
        self._now = 0.0

    # -- the user's side

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Every connection that the owner has and that has not ended in Closed."""
        return tuple(known for known in self._connections.values() if known.announced)

    def listen(self, port: int, window: int | None = None) -> None:
        """Accept connections to a port, 1..65535, offering `window` keys (see Connection.set_window) at
        first.

        Raises LocalProtocolError when it already listens.
        """
        _check_port(port)
        if port in self._listening:
            raise LocalProtocolError(f"port {port} is listening already")
        self._listening[port] = window

    def unlisten(self, port: int) -> None:
        """Accept no more; connections that stand stay."""
        if port not in self._listening:
            raise LocalProtocolError(f"port {port} is not listening")
        del self._listening[port]

    def connect(
        self,
        now: float,
        local_port: int,
        remote: IPv4Address,
        remote_port: int,
        qos: Qos | None = None,
        window: int | None = None,
    ) -> Connection:
        """Begin a connection; local_port 0 draws a free one of 49152..65535. Ends in Opened or Closed.

        Raises AdmissionRefused (a LocalProtocolError) when the path cannot carry qos, LocalProtocolError when
        the pair of addresses and ports is in use.
        """
        self._advance(now)
        _check_port(remote_port)
        if not is_node(remote) or remote == self.address:
            raise LocalProtocolError(f"{remote} is no other node's address")
        name = self._free_name(local_port, remote, remote_port)
        if len(self._connections) >= MAX_CONNECTIONS:
            raise LocalProtocolError(f"{MAX_CONNECTIONS} connections, no more")
        wanted = qos or Qos()
        if self._admission is not None:
            self._admission.admit(remote, wanted)
        connection = self._make(name, wanted, True, window)
        connection.begin(self._now)
        return connection

    def events(self) -> list[Event]:
        """Take what happened since the last call."""
        taken, self._events = self._events, []
        self._untaken = False
        return taken

    def outgoing(self) -> list[Outgoing]:
        """Take the packets to send now."""
        if self._untaken:
            return []
        going, self._replies = self._replies, []
        for connection in self._touched:
            going += connection.emit(self._now)
        self._note_deadlines()
        self._touched.clear()
        return going

    # -- what comes

    def receive(self, now: float, packet_clear: bytes, handles: Sequence[int] = ()) -> None:
        """One QKDNL packet for this node: its clear part, and the handles of the keys that followed, in
        order.

        Raises nothing: a wrong packet is dropped, counted in `dropped`, and its handles come back in Discard.
        """
        self._advance(now)
        try:
            self._receive(packet_clear, handles)
        except RemoteProtocolError as error:
            self.dropped[error.reason] += 1
            if handles:
                self.happened(Discard(tuple(handles)))

    def _receive(self, data: bytes, handles: Sequence[int]) -> None:
        outer = network.parse(data)
        if outer.destination != self.address:
            raise RemoteProtocolError("network-destination", str(outer.destination))
        if outer.protocol == network.PROTOCOL_ICMP and not handles:
            self._receive_error(outer.payload)
            return
        if outer.protocol != network.PROTOCOL_QKDTL:
            raise RemoteProtocolError("network-protocol", str(outer.protocol))
        length = outer.length_bytes - network.HEADER_BYTES
        segment = packet.parse(outer.payload, length, int(outer.source), int(outer.destination))
        if len(handles) != len(segment.key_ids):
            raise RemoteProtocolError("segment-handles", f"{len(segment.key_ids)} keys, {len(handles)} handles")
        self._receive_segment(outer.source, segment, handles, outer.ecn == network.Ecn.CE)

    def _receive_segment(self, source: IPv4Address, segment: Segment, handles: Sequence[int], marked: bool) -> None:
        connection = self._connections.get((segment.destination_port, source, segment.source_port))
        if connection is None and (not is_node(source) or source == self.address):
            raise RemoteProtocolError("network-source", str(source))
        if segment.flags == packet.SYN and self._is_new(connection, segment):
            self._accept(source, segment)
            return
        try:
            if connection is None:
                raise UnknownConnection("segment-unknown")
            connection.receive(self._now, segment, handles, marked)
        except UnknownConnection:
            if segment.flags != packet.RST:
                self._reset(source, segment, refused=False)
            raise
        except RemoteProtocolError:
            if connection is not None:
                self.touch(connection, self._now)  # a dropped segment may still ask for an acknowledgement
            raise

    def _is_new(self, connection: Connection | None, syn: Segment) -> bool:
        """Whether a SYN is not about a connection that is known, or only about one that is over."""
        if connection is None:
            return True
        return connection.state is State.TIME_WAIT and connection.peer_tag != syn.sender_tag

    def _accept(self, source: IPv4Address, syn: Segment) -> None:
        if syn.destination_port not in self._listening:
            self._reset(source, syn, refused=True)
            raise RemoteProtocolError("port-unknown", str(syn.destination_port))
        half_open = [known for known in self._connections.values() if known.state is State.SYN_RECEIVED]
        from_there = sum(known.remote == source for known in half_open)
        if len(half_open) >= MAX_HALF_OPEN or from_there >= MAX_HALF_OPEN_PER_NODE:
            raise RemoteProtocolError("half-open-limit")
        if len(self._connections) >= MAX_CONNECTIONS:
            raise RemoteProtocolError("connection-limit")
        name = (syn.destination_port, source, syn.source_port)
        connection = self._make(name, syn.qos or Qos(), False, self._listening[syn.destination_port])
        connection.begin_from(self._now, syn)

    def _receive_error(self, payload: bytes) -> None:
        """An ICMP error: a hint that anybody on the way may give, so it ends nothing but a set-up; routes heal."""
        error = icmp.parse(payload)
        if error.source != self.address or error.protocol != network.PROTOCOL_QKDTL:
            raise RemoteProtocolError("icmp-unrelated")
        local_port, remote_port, sequence = struct.unpack("!HHI", error.quoted)
        connection = self._connections.get((local_port, error.destination, remote_port))
        if connection is not None:
            connection.warned_s = self._now
        if connection is None or not connection.unreachable(sequence):
            raise RemoteProtocolError("icmp-unheeded")

    def _reset(self, to: IPv4Address, segment: Segment, refused: bool) -> None:
        """Tell the sender of `segment` that its connection does not exist here, in the sender's own terms."""
        if len(self._replies) >= MAX_RESETS_WAITING or not self._reset_budget.take(self._now, 1):
            self.dropped["reset-limit"] += 1
            return
        span = len(segment.key_ids) or segment.flags in (packet.SYN, packet.SYN_ACK, packet.FIN)
        reset = Segment(
            segment.destination_port,
            segment.source_port,
            segment.acknowledgement,
            segment.sequence + int(span),
            packet.RST,
            sender_tag=segment.receiver_tag,
            receiver_tag=segment.sender_tag,
            refused=refused,
        )
        self.send_now(wrap(int(self.address), int(to), reset))

    # -- time

    def way_changed(self, now: float) -> None:
        """A link or a route came or went: what waits for an answer that an outage took is tried again at once."""
        self._advance(now)
        for connection in list(self._connections.values()):
            connection.way_changed(self._now)

    def tick(self, now: float) -> None:
        """Let timers that are due fire."""
        self._advance(now)
        self._note_deadlines()
        for connection in self._timers.due(self._now):
            connection.on_time(self._now)

    def deadline(self) -> float | None:
        """When tick is next needed."""
        self._note_deadlines()
        return self._timers.next()

    def _note_deadlines(self) -> None:
        for connection in self._touched:
            if connection.state is not State.CLOSED:
                self._timers.set(connection, connection.deadline(self._now))

    def _advance(self, now: float) -> None:
        self._now = max(self._now, now)

    # -- what connections need (owner.Owner)

    def happened(self, event: Event) -> None:
        self._events.append(event)
        if type(event) is KeysArrived:
            self._untaken = True
        elif type(event) is Closed and self._admission is not None and event.connection.active:
            self._admission.release(event.connection.remote, event.connection.qos)

    def touch(self, connection: Connection, now: float) -> None:
        self._advance(now)
        self._touched[connection] = None

    def gone(self, connection: Connection) -> None:
        name = (connection.local_port, connection.remote, connection.remote_port)
        if self._connections.get(name) is connection:
            del self._connections[name]
            self._timers.forget(connection)

    def send_now(self, outgoing: Outgoing) -> None:
        self._replies.append(outgoing)

    # -- parts

    def _make(self, name: _Name, qos: Qos, active: bool, window: int | None) -> Connection:
        old = self._connections.get(name)
        if old is not None:
            self._timers.forget(old)
            self._touched.pop(old, None)
        tag = int.from_bytes(self._random(8), "big") or 1
        local_port, remote, remote_port = name
        connection = Connection(self, self._now, local_port, remote, remote_port, qos, active, tag, window)
        self._connections[name] = connection
        return connection

    def _free_name(self, local_port: int, remote: IPv4Address, remote_port: int) -> _Name:
        if local_port:
            _check_port(local_port)
            known = self._connections.get((local_port, remote, remote_port))
            if known is not None and known.state is not State.TIME_WAIT:
                raise LocalProtocolError(f"port {local_port} is connected to {remote} port {remote_port} already")
            return local_port, remote, remote_port
        for _ in range(_DRAWS):
            drawn = FIRST_DRAWN_PORT + int.from_bytes(self._random(2), "big") % (65_536 - FIRST_DRAWN_PORT)
            if drawn not in self._listening and (drawn, remote, remote_port) not in self._connections:
                return drawn, remote, remote_port
        raise LocalProtocolError(f"no free port to {remote} port {remote_port} in {_DRAWS} draws")


def _check_port(port: int) -> None:
    if not 0 < port < 65_536:
        raise LocalProtocolError(f"a port is 1..65535, not {port}")
