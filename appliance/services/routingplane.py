"""routing.sock: the routing unit's end of its talk with the data plane (messages in appliance/routing/port.py)."""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path

from appliance.network.errors import RemoteProtocolError
from appliance.routing import port
from appliance.routing.port import LinkState
from appliance.services.runtime import READ, WRITE, Loop
from appliance.services.unitsocket import UnitSocket

TRY_AGAIN_S = 0.1  # a data plane that starts again refuses what is beyond its neighbours until it has our table
MOST_WAITING = 1 << 14  # messages that the data plane has not read yet
MOST_MESSAGES = 64  # read in one go


class RoutingPlane:
    """Stays connected. `began` and `lost` tell of the connection, `links` of each push, `packet` of what came in."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        began: Callable[[], None],
        lost: Callable[[str], None],
        links: Callable[[list[LinkState]], None],
        packet: Callable[[int, bytes], None],
    ) -> None:
        self._loop, self._path = loop, path
        self._began, self._lost, self._links, self._packet = began, lost, links, packet
        self._unit = UnitSocket(loop, path, TRY_AGAIN_S, self._connected)
        self._waiting: deque[bytes] = deque()
        self.dropped: Counter[str] = Counter()
        loop.after(0, self._unit.keep)

    @property
    def _connection(self) -> socket.socket | None:
        return self._unit.socket

    @property
    def up(self) -> bool:
        return self._connection is not None

    @property
    def cause(self) -> str:
        """Why it is not up."""
        return "" if self.up else f"qbb-dataplane does not answer at {self._path} ({self._unit.cause})"

    def _connected(self, connection: socket.socket) -> None:
        self._loop.watch(connection.fileno(), self._ready)
        self._began()

    def send_packet(self, link: int, packet: bytes) -> None:
        self._send([port.pack_packet(link, packet)])

    def send_table(self, parts: Sequence[bytes]) -> None:
        """All parts, or none."""
        self._send(parts)

    def _send(self, messages: Sequence[bytes]) -> None:
        if self._connection is None:
            return
        if len(self._waiting) + len(messages) > MOST_WAITING:
            self.dropped["port-full"] += len(messages)
            return
        self._waiting.extend(messages)
        self._write()

    def _write(self) -> None:
        assert self._connection is not None
        try:
            while self._waiting:
                self._connection.send(self._waiting[0])
                self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        self._loop.watch(self._connection.fileno(), self._ready, READ | WRITE if self._waiting else READ)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
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
                self._end("it closed the connection")
                return
            try:
                self._take(message)
            except RemoteProtocolError as error:
                self.dropped[error.reason] += 1

    def _take(self, message: bytes) -> None:
        packet = port.split_packet(message)
        if packet is not None:
            self._packet(*packet)
            return
        text = port.parse_text(message)
        if text.get("type") == "links":
            self._links(port.parse_links(text))

    def _end(self, why: str) -> None:
        if not self.up:
            return
        self.close(why)
        self._lost(why)
        self._unit.again()

    def close(self, why: str = "closed") -> None:
        self._unit.close(why)
        self._waiting.clear()
