"""The sockets of ospfd: its API on 127.0.0.1:2607 with the connection back, and its vty socket for commands."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from appliance.network.errors import RemoteProtocolError
from appliance.routing import ospfapi, vty
from appliance.routing.ospfapi import Event, Session, Synchronised
from appliance.services.runtime import Loop, Timer

HOST = "127.0.0.1"
FIRST_PORT, PORT_PAIRS = 26100, 200
TRY_AGAIN_S = 0.5
CONNECT_WAIT_S = 1.0
READ_BYTES = 1 << 16
QUIET_S = 0.2  # without an event for so long after the synchronisation, the database is whole
VTY_WAIT_S = 1.0


class OspfApi:
    """Stays connected. `began` when a session starts, `event` for each event, `settled` when the database is whole,
    `lost` with the reason when the session ends; it is begun again by itself."""

    def __init__(
        self,
        loop: Loop,
        opaque_kind: int,
        began: Callable[[], None],
        event: Callable[[Event], None],
        settled: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop, self._opaque_kind = loop, opaque_kind
        self._began, self._event, self._settled, self._lost = began, event, settled, lost
        self._sockets: list[socket.socket] = []
        self._requests: socket.socket | None = None
        self._session = Session(opaque_kind)
        self._pair = os.getpid()  # where the search for free ports begins
        self._quiet: Timer | None = None
        self._synchronised = False
        self._output = b""
        self.cause = "not tried yet"
        loop.after(0, self._try)

    @property
    def up(self) -> bool:
        return self._requests is not None

    @property
    def dropped(self) -> dict[str, int]:
        return self._session.dropped

    def _try(self) -> None:
        try:
            requests, listener = self._connect()
        except OSError as error:
            self.cause = f"ospfd's API does not answer at {HOST}:{ospfapi.SERVER_PORT} ({error.strerror or error})"
            self._loop.after(TRY_AGAIN_S, self._try)
            return
        requests.setblocking(False)
        self._sockets = [requests, listener]
        self._requests, self._session = requests, Session(self._opaque_kind, self._session.dropped)
        self._synchronised, self._output, self.cause = False, b"", ""
        self._loop.watch(requests.fileno(), lambda events: self._ready(requests, self._session.receive_replies))
        self._loop.watch(listener.fileno(), lambda events: self._accept(listener))
        self._began()
        self.send(self._session.start())

    def _connect(self) -> tuple[socket.socket, socket.socket]:
        """From port P, listening at P + 1. Another pair each time: the last one may linger in TIME_WAIT."""
        failure: OSError = OSError(0, "no free pair of ports")
        for _ in range(8):
            self._pair += 1
            port = FIRST_PORT + 2 * (self._pair % PORT_PAIRS)
            requests, listener = (socket.socket(type=socket.SOCK_STREAM | socket.SOCK_CLOEXEC) for _ in range(2))
            try:
                for one, at in ((requests, port), (listener, port + 1)):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    one.bind((HOST, at))
                listener.listen(1)
                listener.setblocking(False)
                requests.settimeout(CONNECT_WAIT_S)
                requests.connect((HOST, ospfapi.SERVER_PORT))
                return requests, listener
            except OSError as error:
                failure = error
                requests.close()
                listener.close()
                if isinstance(error, (ConnectionError, TimeoutError)):
                    break
        raise failure

    def _accept(self, listener: socket.socket) -> None:
        try:
            events, _ = listener.accept()
        except OSError:
            return
        self._loop.forget(listener.fileno())
        listener.close()
        events.setblocking(False)
        self._sockets[1] = events
        self._loop.watch(events.fileno(), lambda ready: self._ready(events, self._session.receive_events))

    def _ready(self, connection: socket.socket, receive: Callable[[bytes], list[Event]]) -> None:
        if self._output:
            self.send(b"")
        try:
            data = connection.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError(0, "it closed the connection")
            events = receive(data)
        except BlockingIOError:
            return
        except (OSError, RemoteProtocolError) as error:
            self._end(str(error.strerror or error) if isinstance(error, OSError) else str(error))
            return
        for event in events:
            if isinstance(event, Synchronised):
                self._synchronised = True
            else:
                self._event(event)
        if self._synchronised:
            self._await_quiet()

    def _await_quiet(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = self._loop.after(QUIET_S, self._whole)

    def _whole(self) -> None:
        self._quiet, self._synchronised = None, False
        self._settled()

    def send(self, requests: bytes) -> None:
        """Kept until ospfd takes it. Without a session it is lost: a new one starts from scratch."""
        if self._requests is None:
            return
        self._output += requests
        try:
            self._output = self._output[self._requests.send(self._output) :]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(error.strerror or str(error))
            return
        if self._output:
            self._loop.after(0.01, lambda: self.send(b""))

    def originate(self, opaque_id: int, body: bytes | None) -> None:
        """A body of None withdraws."""
        if body is None:
            self.send(self._session.withdraw(opaque_id))
        else:
            self.send(self._session.originate(opaque_id, body))

    def _end(self, why: str) -> None:
        if self._requests is None:
            return
        self.close()
        self.cause = f"the session with ospfd ended: {why}"
        self._lost(why)
        self._loop.after(TRY_AGAIN_S, self._try)

    def close(self) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        for one in self._sockets:
            if one.fileno() >= 0:
                self._loop.forget(one.fileno())
            one.close()
        self._sockets, self._requests, self._output = [], None, b""


def command(path: Path, commands: list[str]) -> list[str]:
    """ospfd's answers to commands, one after the other. Raises OSError, also when it refuses one."""
    answers = []
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)) as connection:
        connection.settimeout(VTY_WAIT_S)
        connection.connect(str(path))
        for line in commands:
            connection.sendall(vty.request(line))
            text, status = _answer(connection)
            if status != vty.SUCCESS:
                raise OSError(0, f"ospfd refused {line!r}: {text.strip() or f'status {status}'}")
            answers.append(text)
    return answers


def _answer(connection: socket.socket) -> tuple[str, int]:
    received = b""
    while (whole := vty.answer(received)) is None:
        data = connection.recv(READ_BYTES)
        if not data:
            raise ConnectionResetError(0, "ospfd closed its vty")
        received += data
    return whole
