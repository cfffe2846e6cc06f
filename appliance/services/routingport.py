"""routing.sock: the data plane's end of its conversation with the routing unit (messages in appliance/routing/port.py).

One connection at a time: a new one replaces the old. Without a table of the routing unit the configured routes hold; a
table outlives a restart of the routing unit by GRACE_S, for the links still are what they were.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.forwarding.table import Destination, Hop
from appliance.native.dataplane import DataPlane
from appliance.network.errors import RemoteProtocolError
from appliance.routing import gate, port
from appliance.routing.lsa import HOST_BITS, mask_of
from appliance.routing.port import TableEntry
from appliance.services import journal
from appliance.services.control import listen
from appliance.services.runtime import Loop, Timer

PUSH_INTERVAL_S = 2.0
GRACE_S = 60.0
CHANNEL, DATA, PRIORITY = 2, 1, 4
MOST_MESSAGES = 64  # read in one go


def destinations(table: Iterable[TableEntry], peers: Iterable[int]) -> list[Destination]:
    """A table as forwarding takes it. A neighbour that it leads to gets a row of its own: its link's plain row would
    win by its length, also while that link is dead."""
    found = [Destination(prefix, bits, tuple(Hop(*choice) for choice in choices)) for prefix, bits, choices in table]
    for peer in peers:
        covering = (one for one in found if peer & mask_of(one.bits) == one.prefix)
        longest = max(covering, key=lambda one: one.bits, default=None)
        if longest is not None and longest.bits < HOST_BITS:
            found.append(Destination(peer, HOST_BITS, longest.hops))
    return found


class RoutingPort:
    """`install` takes each whole table, an empty one when there is none any more. `describe`: {"links": [{"name",
    "index", "peer", "usable", "rate_bps", "stored_bytes"}]}."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        plane: DataPlane,
        install: Callable[[Sequence[Destination]], None],
        describe: Callable[[], dict[str, Any]],
    ) -> None:
        self._loop, self._plane, self._install, self._describe = loop, plane, install, describe
        self._peers = [int(IPv4Address(link["peer"])) for link in describe()["links"]]
        self._links = len(self._peers)
        self._listener = listen(path, socket.SOCK_SEQPACKET, 0o660)
        self._connection: socket.socket | None = None
        self._assembly = port.Assembly(self._links)
        self._expiry: Timer | None = None
        self.dropped: Counter[str] = Counter()
        self.destinations: int | None = None  # in the table, None without one
        loop.watch(self._listener.fileno(), self._accept)
        loop.every(PUSH_INTERVAL_S, self.push)

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            self._drop("replaced by a new connection")
            connection.setblocking(False)
            self._connection, self._assembly = connection, port.Assembly(self._links)
            if self._expiry is not None:
                self._expiry.cancel()
            self._loop.watch(connection.fileno(), self._ready)
            journal.write("routing-connected", "the routing unit is here")
            self.push()

    def _ready(self, events: int) -> None:
        for _ in range(MOST_MESSAGES):
            if self._connection is None:
                return
            try:
                message = self._connection.recv(port.MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._drop("it closed the connection")
                return
            try:
                self._take(message)
            except RemoteProtocolError as error:
                self.dropped[error.reason] += 1

    def _take(self, message: bytes) -> None:
        packet = port.split_packet(message)
        if packet is not None:
            self._out(*packet)
            return
        text = port.parse_text(message)
        if text.get("type") != "table":
            raise RemoteProtocolError("port-type", str(text.get("type"))[:40])
        table = self._assembly.add(text)
        if table is not None:
            self.destinations = len(table)
            self._install(destinations(table, self._peers))

    def _out(self, link: int, packet: bytes) -> None:
        if link >= self._links:
            self.dropped["out-link"] += 1
        elif (wrong := gate.malformed(packet)) is not None:
            self.dropped[f"out-{wrong}"] += 1
        elif not self._plane.submit(link, CHANNEL, DATA, PRIORITY, packet, reliable=False):
            # Not reliably: OSPF repeats what gets lost, and an acknowledgement would cost one tag more.
            self.dropped["out-full"] += 1

    def packet(self, link: int, packet: bytes) -> None:
        """One that came over a link's channel for routing, verified by the link."""
        if (wrong := gate.malformed(packet)) is not None:
            self.dropped[f"in-{wrong}"] += 1
        elif self._connection is not None:
            try:
                self._connection.send(port.pack_packet(link, packet))
            except OSError:
                self.dropped["in-full"] += 1

    def push(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                message = {"type": "links", "links": self._describe()["links"]}
                self._connection.send(json.dumps(message).encode())

    def status(self) -> dict[str, Any]:
        return {
            "connected": self._connection is not None,
            "destinations": self.destinations,
            "dropped": dict(self.dropped),
        }

    def _drop(self, why: str) -> None:
        if self._connection is None:
            return
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._connection = None
        journal.write("routing-lost", f"the routing unit is gone: {why}; its table stays for {GRACE_S:.0f} s")
        self._expiry = self._loop.after(GRACE_S, self._expire)

    def _expire(self) -> None:
        if self._connection is None and self.destinations is not None:
            self.destinations = None
            self._install([])
            journal.write("routing-expired", "no routing unit: the configured routes hold")
