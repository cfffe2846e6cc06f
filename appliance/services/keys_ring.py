"""The keys service's connection to the data plane: ring.sock, the rings that come over it, what the links can do."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from appliance.native.ring import RingError, RingPair, wake
from appliance.native.shelf import Shelf
from appliance.services.runtime import Loop
from appliance.services.unitsocket import UnitSocket
from appliance.transport.endpoint import Outgoing

RETRY_S = 0.5
MESSAGE_MAX_BYTES = 1 << 18
OUTAGE_S = 1.0  # a link that was down for less may just be starting its next session
TAKE_MOST = 256  # packets in one go, so that clients get their turn
RING_FDS = 3  # shared memory, eventfd to keys, eventfd from keys

Packet = Callable[[bytes, list[int]], None]


class RingLink:
    """Connects, and connects again; hands over packets, takes packets. A packet that cannot pass is dropped and
    counted: the transport repeats it."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        shelf: Shelf,
        packet: Packet,
        taken: Callable[[], None],
        way_changed: Callable[[], None],
    ) -> None:
        self._loop, self._shelf = loop, shelf
        self._packet, self._taken, self._way_changed = packet, taken, way_changed
        self._unit = UnitSocket(loop, path, RETRY_S, self._began)
        self._ring: RingPair | None = None
        self._to_keys = self._from_keys = -1
        self._links: dict[str, dict[str, Any]] = {}
        self._routes: list[tuple[IPv4Network, str]] = []
        self._down_since_s: dict[str, float] = {}  # links that carry nothing
        self._lost_s = loop.now()  # when the data plane went, or was there again and had not given the ring yet
        self.dropped: Counter[str] = Counter()
        self._unit.keep()

    @property
    def _socket(self) -> socket.socket | None:
        return self._unit.socket

    @property
    def up(self) -> bool:
        return self._ring is not None

    def _began(self, link: socket.socket) -> None:
        self._lost_s = self._loop.now()
        self._loop.watch(link.fileno(), self._told)

    def _told(self, events: int) -> None:
        assert self._socket is not None
        room = socket.CMSG_SPACE(RING_FDS * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MESSAGE_MAX_BYTES, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        fds = [fd for level, kind, raw in ancillary if level == socket.SOL_SOCKET for fd in array.array("i", raw)]
        try:
            message = json.loads(data) if data else {}
            kind = message.get("type")
        except (ValueError, AttributeError):
            message, kind = {}, None
        if kind == "ring" and len(fds) == RING_FDS:
            self._replace(fds)
            return
        for fd in fds:
            os.close(fd)
        if kind == "links":
            self._learn(message)
        elif not data:
            self.lose()
            self._unit.again()

    def _replace(self, fds: list[int]) -> None:
        self._drop_ring()
        memory, self._to_keys, self._from_keys = fds
        try:
            self._ring = RingPair.attach(memory)
        except OSError:
            self.dropped["ring-refused"] += 1
            self._drop_ring()
            return
        finally:
            os.close(memory)
        self._loop.watch(self._to_keys, self._woken)
        self._woken(0)

    def _learn(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
            links = {link["name"]: link for link in message["links"]}
            routes = [(IPv4Network(route["prefix"]), route["link"]) for route in message.get("routes", [])]
            routes.sort(key=lambda route: -route[0].prefixlen)
            ways = self._ways()
            self._links, self._routes = links, routes
            now, before = self._loop.now(), self._down_since_s
            self._down_since_s = {n: before.get(n, now) for n, link in links.items() if not link.get("usable")}
            if self._ways() != ways:
                self._loop.after(0, self._way_changed)

    def _ways(self) -> tuple[set[str], list[tuple[IPv4Network, str]]]:
        """What decides by which link a packet goes."""
        return {name for name, link in self._links.items() if link.get("usable")}, self._routes

    def link_name(self, node: IPv4Address) -> str | None:
        """The link that leads to a node, as far as is known."""
        link = self._link_to(node)
        return None if link is None else str(link["name"])

    def _link_to(self, node: IPv4Address) -> dict[str, Any] | None:
        for prefix, name in self._routes:
            if node in prefix:
                return self._links.get(name)
        return None

    def path_rate(self, node: IPv4Address) -> float | None:
        """Key bit/s of the link towards a node, 0 when it is down; None when no route is known."""
        link = self._link_to(node)
        if link is None:
            return None
        return float(link.get("rate_bps", 0)) if link.get("usable") else 0.0

    def stored_bytes(self, node: IPv4Address) -> int | None:
        link = self._link_to(node)
        return None if link is None else int(link.get("stored_bytes", 0))

    def outage(self, node: IPv4Address) -> str | None:
        """Why nothing gets to a node: no route, or a fault that has lasted; None when something may."""
        now = self._loop.now()
        if self._ring is None:
            self._unit.attempt()  # somebody waits: sooner than by the clock
            return "this node's data plane does not run" if now - self._lost_s >= OUTAGE_S else None
        link = self._link_to(node)
        if link is None:
            return f"no route leads to node {node}" if self._routes else None
        if now - self._down_since_s.get(link["name"], now) < OUTAGE_S:
            return None
        return f"link {link['name']} carries no keys: {link.get('cause') or 'down'}"

    def _woken(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._to_keys)
        ring = self._ring
        for _ in range(TAKE_MOST):
            if ring is None or ring is not self._ring:
                break
            try:
                taken = ring.take(self._shelf)
            except RingError as error:
                self.dropped[error.reason] += 1
                continue
            if taken is None:
                break
            self._packet(*taken)
        else:
            wake(self._to_keys)  # there may be more: come back after the others
        self._taken()

    def send(self, packets: list[Outgoing]) -> None:
        if self._ring is None:
            self.dropped["no-ring"] += len(packets)
            return
        for packet in packets:
            try:
                self._ring.put(self._shelf, packet.clear, packet.handles)
            except RingError as error:
                self.dropped[error.reason] += 1
        if packets:
            wake(self._from_keys)

    def _drop_ring(self, wipe: bool = True) -> None:
        if self._ring is not None:
            if wipe:
                self._ring.close()
            self._ring = None
        for fd in (self._to_keys, self._from_keys):
            if fd >= 0:
                self._loop.forget(fd)
                os.close(fd)
        self._to_keys = self._from_keys = -1

    def lose(self, wipe: bool = True) -> None:
        """The data plane is gone, or we go: then what we sent last is left in the ring for it to take."""
        self._drop_ring(wipe)
        self._lost_s = self._loop.now()
        self._links, self._routes = {}, []
        self._unit.close()
