"""registry.sock: where the keys service tells of its applications and finds those of other nodes (SEQPACKET, JSON).

To here:    {"type": "register", "port", "kind": SA type, "name": "", "address": own node's, "public": address or null}
            {"type": "unregister", ... the same}
            {"type": "find", "id": any, "name": TEXT}   or   {"type": "find", "id": any, "address", "port"}
From here:  {"type": "registered", "port"}   {"type": "refused", "port", "reason"}
            {"type": "found", "id", "complete", "applications": [{"name", "address", "port", "kind", "public", "cost"}]}

Found are applications whose node can be reached, the MOST_FOUND nearest; complete is false while routing has not
settled and there may be more. What a connection registered is withdrawn when it ends. A message that cannot be
understood ends the connection: the keys service is of our own make.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

from appliance.network.errors import LocalProtocolError
from appliance.routing.registrations import Registration
from appliance.services.control import listen
from appliance.services.runtime import READ, WRITE, Loop

MESSAGE_BYTES = 4096
MOST_CONNECTIONS = 16
MOST_MESSAGES = 64  # read in one go
MOST_FOUND = 16

Found = list[tuple[Registration, int]]  # with the cost of the way there
Finder = Callable[[str | None, IPv4Address | None, int], Found]


class RegistryPort:
    """`add` raises LocalProtocolError for what cannot be registered."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        node: IPv4Address,
        add: Callable[[Registration], None],
        remove: Callable[[Registration], None],
        find: Finder,
        complete: Callable[[], bool],
    ) -> None:
        self._loop, self._path, self._node = loop, path, node
        self._add, self._remove, self._find, self._complete = add, remove, find, complete
        self._listener = listen(path, socket.SOCK_SEQPACKET, 0o660)
        self._owned: dict[socket.socket, set[Registration]] = {}
        self._replies: dict[socket.socket, bytes] = {}  # that found no room; nothing is read before they do
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._owned) >= MOST_CONNECTIONS:
                connection.close()
                return
            connection.setblocking(False)
            self._owned[connection] = set()
            self._loop.watch(connection.fileno(), lambda events: self._ready(connection))

    def _ready(self, connection: socket.socket) -> None:
        try:
            for _ in range(MOST_MESSAGES):
                if not self._replied(connection):
                    return
                message = connection.recv(MESSAGE_BYTES)
                if not message:
                    raise ConnectionResetError
                reply = self._answer(connection, json.loads(message))
                if reply is not None:
                    self._replies[connection] = json.dumps(reply).encode()
            self._replied(connection)
        except BlockingIOError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._end(connection)

    def _replied(self, connection: socket.socket) -> bool:
        """Sends the reply that waits; False when there is no room for it yet."""
        reply = self._replies.get(connection)
        if reply is None:
            return True
        try:
            connection.send(reply)
        except BlockingIOError:
            self._loop.watch(connection.fileno(), lambda events: self._ready(connection), WRITE)
            return False
        del self._replies[connection]
        self._loop.watch(connection.fileno(), lambda events: self._ready(connection), READ)
        return True

    def _answer(self, connection: socket.socket, message: dict[str, Any]) -> dict[str, Any] | None:
        kind = message["type"]
        if kind == "find":
            found = self._found(message)
            return {"type": "found", "id": message.get("id"), "complete": self._complete(), "applications": found}
        one = self._registration(message)
        if kind == "unregister":
            self._owned[connection].discard(one)
            self._remove(one)
            return None
        if kind != "register":
            raise ValueError(kind)
        try:
            self._add(one)
        except LocalProtocolError as error:
            return {"type": "refused", "port": one.port, "reason": str(error)}
        self._owned[connection].add(one)
        return {"type": "registered", "port": one.port}

    def _registration(self, message: dict[str, Any]) -> Registration:
        public = message.get("public")
        return Registration(
            IPv4Address(message.get("address") or str(self._node)),
            int(message["port"]),
            int(message.get("kind", 0)),
            str(message.get("name", "")),
            ip_address(public) if public else None,
        )

    def _found(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        if "name" in message:
            found = self._find(str(message["name"]), None, 0)
        else:
            found = self._find(None, IPv4Address(message["address"]), int(message["port"]))
        found.sort(key=lambda pair: (pair[1], pair[0].port))
        return [{**shown(one), "cost": cost} for one, cost in found[:MOST_FOUND]]

    def _end(self, connection: socket.socket) -> None:
        self._loop.forget(connection.fileno())
        connection.close()
        self._replies.pop(connection, None)
        for one in self._owned.pop(connection, ()):
            self._remove(one)

    def close(self) -> None:
        for connection in list(self._owned):
            self._end(connection)
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._path.resolve().unlink(missing_ok=True)


def shown(one: Registration) -> dict[str, Any]:
    return {
        "name": one.name,
        "address": str(one.address),
        "port": one.port,
        "kind": one.kind,
        "public": str(one.public) if one.public is not None else None,
    }
