"""A device's connection to the simulated fibre: kept up, its messages handed on."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from appliance.devices.fibrewire import Splitter, WireError, connect, encode, wipe
from appliance.services.runtime import Loop

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
CONNECT_TIMEOUT_S = 2.0


class FibreEnd:
    """`received(message, secret)` gets each message (and wipes the secret), `lost(reason)` each loss of
    connection."""

    def __init__(
        self,
        loop: Loop,
        address: str,
        hello: dict[str, Any],
        received: Callable[[dict[str, Any], bytearray], None],
        lost: Callable[[str], None],
    ) -> None:
        self._loop, self._address, self._hello = loop, address, hello
        self._received, self._lost = received, lost
        self._splitter = Splitter()
        self._buffer = bytearray(65536)
        self._socket: socket.socket | None = None
        self._retry_s = FIRST_RETRY_S

    def start(self) -> None:
        try:
            self._socket = connect(self._address, CONNECT_TIMEOUT_S)
            self._socket.sendall(encode({"type": "hello", **self._hello}))
            self._socket.setblocking(False)
        except OSError as error:
            self.drop(f"no fibre at {self._address}: {error.strerror or error}")
            return
        self._splitter = Splitter()
        self._loop.watch(self._socket.fileno(), self._event)

    def drop(self, reason: str) -> None:
        """Ends the connection and tries again later."""
        self.stop()
        self._lost(reason)
        self._loop.after(self._retry_s, self.start)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def stop(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _event(self, events: int) -> None:
        assert self._socket is not None
        try:
            count = self._socket.recv_into(self._buffer)
            if not count:
                self.drop("the fibre ended the connection")
                return
            with memoryview(self._buffer) as view:
                messages = self._splitter.feed(view[:count])
            wipe(self._buffer, 0, count)
            for message, secret in messages:
                self._handle(message, secret)
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            self.drop(f"the connection to the fibre broke: {error}")

    def _handle(self, message: dict[str, Any], secret: bytearray) -> None:
        if message.get("type") == "refused":
            self._retry_s = LONGEST_RETRY_S
            raise WireError(f"refused: {message.get('reason')}")
        self._retry_s = FIRST_RETRY_S
        try:
            self._received(message, secret)
        except (KeyError, TypeError, ValueError) as error:
            raise WireError(f"a strange {message.get('type')!r} message: {error}") from None
