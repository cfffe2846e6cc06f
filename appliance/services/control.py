"""The control sockets: how `qbb` and the monitor ask a running unit.

Each unit listens at RUNDIR/UNIT.control (dataplane, keys, routing, frr, device-NAME; unix stream socket, mode 0660). A
request is one line of JSON, {"command": NAME, ...arguments}; the answer is one line, {"ok": true, "answer":
...} or {"ok": false, "error": TEXT}. A connection may ask several times. No answer ever holds a key byte.

Every unit answers "status" and "help" (its commands). Contracts:

dataplane "status":
    {"node", "address", "uptime_s", "memory": "memfd_secret"|"mlock", "hash": "vpclmul"|"pclmul"|"portable",
     "links": [{"name", "peer", "state": "down"|"hello"|"sync"|"up"|"quarantine", "cause": TEXT,
        "no_room": why the store took no new key last, empty when it did,
        "used_names": devices whose last block came under a name that was used, in words,
        "store_state": "charging"|"ready"|"low"|"exhausted"|"quarantined",
        "stored_bytes", "common_bytes", "pickup_bytes", "out_bytes", "in_bytes", "key_rate_bps",
        "log_records", "epoch", "devices": [{"name", "state", "qber", "rate_bps", "alarm": TEXT or null}],
        "refused_connections": n, of strangers to the TCP channel,
        "counters": {drop reason: n}, "spent_bytes": {cause: n}, "delivered_key_bytes",
        "load", "load_critical", "load_window": L of equation 1, L_cr and w, "carries_bps": what load 1 is,
        "queued_packets", "queue_mark_packets"}],
     "network_drops": {reason: n}, "icmp": {"sent": n, "received": {kind: n}}}
dataplane "routes": {"routes": [{"prefix", "local": here?, "ways": [{"link", "cost", "loop_free"}], best first}],
     "overload", "default_link"}.
dataplane "discard" link=NAME: the operator discards a quarantined store; {"discarded_bytes"}. Refused when
    the store is not quarantined.
device "status": the dictionary of appliance.services.device.Service.status.
routing "status": {"node", "address", "role", "areas", "data_plane", "ospf", "causes": [TEXT], "links": [{"name",
    "interface", "area", "address", "far", "cost", "usable", "damped"}], "adjacent", "destinations", "nodes",
    "registrations", "own_registrations", "hold", "settling", "table_version", "computed", "dropped": {reason: n}}
routing "routes": {"hold", "routes": [{"destination", "kind": "network"|"node", "path": "intra-area"|"inter-area",
    "area", "cost", "local", "entries": [{"link", "next_hop", "path", "cost", "best", "loop_free"}]}]}
routing "registrations": {"registrations": [{"name", "address", "port", "kind", "public", "cost"}]}; cost null when the
    node cannot be reached.
frr "status": {"version", "running": {program: pid}}
monitor "status": {"node", "address", "health": "good"|"degraded"|"critical", "units": [names],
    "alarms": [{"alarm": kind, "about", "link": name or null, "critical", "text", "age_s"}], critical ones first}
keys "status": {"node", "uptime_s", "shelf_keys", "shelf_used", "source", "clients", "applications": [...],
    "registry": {"connected": to the routing unit?, "announced": n}, "associations", "audit_records", "dropped"}.
keys "sessions": {"sessions": [{"local_port", "peer", "peer_port", "state", "keys_delivered",
    "keys_confirmed", "stock", "client", "priority"}]}.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from appliance.services.runtime import READ, WRITE, Loop

MODE = 0o660
LONGEST_REQUEST_BYTES = 64 << 10
LONGEST_ANSWER_BYTES = 64 << 20
MOST_CLIENTS = 32

Handler = Callable[[dict[str, Any]], Any]


class Refused(Exception):
    """Raised by a handler, with a text for the one who asked; raised by `ask` when the unit refused."""


class NoAnswer(Exception):
    """The unit does not answer at its socket: not running, no permission, too slow."""


class ControlServer:
    """Listens at `path` and answers from `handlers`. A handler gets the arguments and returns what JSON can
    hold."""

    def __init__(self, loop: Loop, path: Path, handlers: Mapping[str, Handler], mode: int = MODE) -> None:
        self._loop = loop
        self._path = path
        self._handlers = dict(handlers)
        self._handlers.setdefault("help", lambda arguments: sorted(self._handlers))
        self._clients: dict[int, _Client] = {}
        self._listener = listen(path, socket.SOCK_STREAM, mode)
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._clients) >= MOST_CLIENTS:
                connection.close()
                return
            client = _Client(self._loop, connection, self._answer, self._forget)
            self._clients[connection.fileno()] = client

    def _forget(self, fileno: int) -> None:
        self._clients.pop(fileno, None)

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            return {"ok": False, "error": "the request is not JSON"}
        command = request.pop("command", None) if isinstance(request, dict) else None
        handler = self._handlers.get(command) if isinstance(command, str) else None
        if handler is None:
            known = ", ".join(sorted(self._handlers))
            return {"ok": False, "error": f"{str(command)[:40]!r} is no command here; known are {known}"}
        try:
            return {"ok": True, "answer": handler(request)}
        except Refused as refused:
            return {"ok": False, "error": str(refused)}

    def close(self) -> None:
        for client in list(self._clients.values()):
            client.close()
        self._loop.forget(self._listener.fileno())
        self._listener.close()
        self._path.resolve().unlink(missing_ok=True)


class _Client:
    """One connection: lines in, lines out, never blocking the unit."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        answer: Callable[[bytes], dict[str, Any]],
        forget: Callable[[int], None],
    ) -> None:
        self._loop, self._connection = loop, connection
        self._answer, self._forget = answer, forget
        self._input, self._output = b"", b""
        connection.setblocking(False)
        loop.watch(connection.fileno(), self._ready)

    def _ready(self, events: int) -> None:
        try:
            if events & READ:
                self._read()
            if self._output:
                self._output = self._output[self._connection.send(self._output) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
        if self._connection.fileno() >= 0:
            # No further request is read while an answer waits: a client that does not read costs one answer.
            self._loop.watch(self._connection.fileno(), self._ready, WRITE if self._output else READ)

    def _read(self) -> None:
        data = self._connection.recv(LONGEST_REQUEST_BYTES)
        self._input += data
        if not data or len(self._input) > LONGEST_REQUEST_BYTES:
            self.close()
            return
        *lines, self._input = self._input.split(b"\n")
        for line in lines:
            self._output += json.dumps(self._answer(line)).encode() + b"\n"

    def close(self) -> None:
        fileno = self._connection.fileno()
        if fileno >= 0:
            self._loop.forget(fileno)
            self._forget(fileno)
            self._connection.close()
        self._output = b""


def listen(path: Path, kind: int, mode: int) -> socket.socket:
    """A listening unix socket with exactly `mode`, replacing what a crashed predecessor left. Where `path` is a
    symbolic link, as in packaged units, the socket is made where it leads. Raises OSError."""
    path = path.resolve()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def ask(path: Path, command: str, *, timeout_s: float = 5.0, **arguments: Any) -> Any:
    """The unit's answer. Raises NoAnswer and Refused."""
    request = json.dumps({"command": command, **arguments}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(path))
            connection.sendall(request)
            reply = json.loads(_read_line(connection))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise NoAnswer(f"{path.name.removesuffix('.control')} does not answer at {path}: {reason}") from None
    if not isinstance(reply, dict) or reply.get("ok") is not True:
        raise Refused(str(reply.get("error", "refused")) if isinstance(reply, dict) else "a strange answer")
    return reply.get("answer")


def _read_line(connection: socket.socket) -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        data = connection.recv(1 << 16)
        if not data or len(line) > LONGEST_ANSWER_BYTES:
            raise ValueError("it ended the connection without an answer")
        line += data
    return bytes(line)
