"""ring.sock: where the keys service gets the locked ring to the data plane, and hears of links and routes.

One connection at a time: a new one replaces the old ring. The first message carries three descriptors: the shared
memory of both rings and the two eventfds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.native import ffi, lib
from appliance.native.dataplane import DataPlane
from appliance.native.keymem import KeyMemory
from appliance.services import journal
from appliance.services.control import listen
from appliance.services.runtime import Loop

VERSION = 1
PUSH_INTERVAL_S = 2.0


class RingPort:
    """``describe`` gives the message of links and routes that is pushed on change and every two seconds."""

    def __init__(
        self, loop: Loop, path: Path, plane: DataPlane, address: str, describe: Callable[[], dict[str, Any]]
    ) -> None:
        self._loop, self._plane, self._address, self._describe = loop, plane, address, describe
        self._listener = listen(path, socket.SOCK_SEQPACKET, 0o660)
        self._connection: socket.socket | None = None
        self._memory: KeyMemory | None = None
        self._descriptors: list[int] = []
        loop.watch(self._listener.fileno(), self._accept)
        loop.every(PUSH_INTERVAL_S, self.push)

    def _accept(self, events: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._drop("replaced by a new connection")
        connection.setblocking(False)
        memory = KeyMemory.share(2 * lib.qbb_ring_bytes())
        lib.qbb_ring_init(memory.at(0))
        lib.qbb_ring_init(memory.at(lib.qbb_ring_bytes()))
        to_keys, from_keys = (os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(2))
        assert memory.fd is not None
        self._memory, self._descriptors = memory, [to_keys, from_keys, memory.fd]
        self._connection = connection
        hello = {"type": "ring", "version": VERSION, "node": self._address}
        self._plane.set_ring(memory.pointer, to_keys, from_keys)
        try:
            socket.send_fds(connection, [json.dumps(hello).encode()], [memory.fd, to_keys, from_keys])
        except OSError as error:
            self._drop(str(error.strerror))
            return
        self._loop.watch(connection.fileno(), self._ready)
        journal.write("keys-connected", "the keys service has the ring")
        self.push()

    def _ready(self, events: int) -> None:
        assert self._connection is not None
        try:
            if self._connection.recv(4096):
                return  # it has nothing to say here
        except BlockingIOError:
            return
        except OSError:
            pass
        self._drop("it closed the connection")

    def _drop(self, why: str) -> None:
        if self._connection is None:
            return
        self._plane.set_ring(ffi.NULL, -1, -1)
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._connection = None
        for fd in self._descriptors:
            os.close(fd)
        if self._memory is not None:
            self._memory.close()
        self._memory, self._descriptors = None, []
        journal.write("keys-lost", f"the keys service is gone: {why}")

    def push(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.send(json.dumps(self._describe()).encode())
