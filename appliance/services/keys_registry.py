"""The keys service's connection to the routing unit: registry.sock, where applications are told of and found.

What is announced is kept here, so that a routing unit that starts again hears all of it; one that sees this connection
end withdraws all of it (messages: registryport.py).
"""

from __future__ import annotations

import json
import socket
from collections import Counter, deque
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.keys.finding import Found, Where
from appliance.keys.registry import Application
from appliance.services import journal
from appliance.services.runtime import READ, WRITE, Loop
from appliance.services.unitsocket import UnitSocket

RETRY_S = 0.5
GONE_S = 2.0  # a routing unit that is gone for less may just be starting again
MESSAGE_BYTES = 1 << 16
MOST_MESSAGES = 64  # read in one go

Answer = Callable[[int, Found | None], None]


class RegistryLink:
    """Connects, and connects again. `answer` is called with what `find` asked for: None when no routing unit runs."""

    def __init__(self, loop: Loop, path: Path, answer: Answer) -> None:
        self._loop, self._answer = loop, answer
        self._unit = UnitSocket(loop, path, RETRY_S, self._began)
        self._lost_s = loop.now()
        self._announced: dict[int, Application] = {}  # by port
        self._outgoing: deque[dict[str, Any]] = deque()
        self._asked: set[int] = set()
        self.dropped: Counter[str] = Counter()
        self._unit.keep()
        if not self.up:
            self._lost_s -= GONE_S  # nothing says that one was here

    @property
    def _socket(self) -> socket.socket | None:
        return self._unit.socket

    @property
    def up(self) -> bool:
        return self._socket is not None

    @property
    def announced(self) -> int:
        return len(self._announced)

    def announce(self, application: Application) -> None:
        self._announced[application.port] = application
        self._send(_registration("register", application))

    def withdraw(self, application: Application) -> None:
        self._announced.pop(application.port, None)
        self._send(_registration("unregister", application))

    def find(self, number: int, name: str) -> None:
        self._unit.attempt()  # somebody waits: sooner than by the clock
        if self.up:
            self._asked.add(number)
            self._send({"type": "find", "id": number, "name": name})
        elif self._loop.now() - self._lost_s < GONE_S:
            self._answer(number, Found((), complete=False))
        else:
            self._answer(number, None)

    # Connection ----------------------------------------------------------------------------------------------------

    def _began(self, link: socket.socket) -> None:
        self._outgoing.extend(_registration("register", one) for one in self._announced.values())
        self._loop.watch(link.fileno(), self._ready)
        self._flush()

    def _lose(self) -> None:
        self.close()
        self._lost_s = self._loop.now()
        self._outgoing.clear()
        asked, self._asked = self._asked, set()
        self._unit.again()
        for number in asked:
            self._answer(number, Found((), complete=False))

    def close(self) -> None:
        self._unit.close()

    def _send(self, message: dict[str, Any]) -> None:
        if self._socket is not None:
            self._outgoing.append(message)
            self._flush()

    def _flush(self) -> None:
        """Sends what there is room for; watches for room when there is more."""
        assert self._socket is not None
        try:
            while self._outgoing:
                self._socket.send(json.dumps(self._outgoing[0]).encode())
                self._outgoing.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
            return
        self._loop.watch(self._socket.fileno(), self._ready, READ | WRITE if self._outgoing else READ)

    def _ready(self, events: int) -> None:
        if events & READ:
            self._read()
        if events & WRITE and self._socket is not None:
            self._flush()

    def _read(self) -> None:
        for _ in range(MOST_MESSAGES):
            if self._socket is None:
                return
            try:
                message = self._socket.recv(MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lose()
                return
            try:
                self._take(json.loads(message))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                self.dropped["registry-message"] += 1

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "found":
            places = [Where(IPv4Address(one["address"]), one["port"], one["kind"]) for one in message["applications"]]
            number = message["id"]
            if number in self._asked:
                self._asked.discard(number)
                self._answer(number, Found(places, message["complete"] is True))
        elif kind == "refused":
            port, reason = int(message["port"]), str(message["reason"])
            self.dropped["registry-refused"] += 1
            journal.write("application-not-announced", f"application at port {port}: {reason}", port=port)


def _registration(kind: str, application: Application) -> dict[str, Any]:
    return {
        "type": kind,
        "port": application.port,
        "kind": application.satype,
        "name": application.name,
        "public": str(application.address),
    }
