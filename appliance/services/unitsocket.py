"""A connection to another unit's socket: made, and made again, since either unit may end and start at any time."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from appliance.services.runtime import Loop


def connect(path: Path) -> socket.socket:
    """To a unit's packet socket, without waiting. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.connect(str(path))
    except OSError:
        made.close()
        raise
    return made


class UnitSocket:
    """`began` is called with each new connection. Between them it is tried by the clock, every `every_s`, and by
    `attempt` when somebody waits."""

    def __init__(self, loop: Loop, path: Path, every_s: float, began: Callable[[socket.socket], None]) -> None:
        self._loop, self._path, self._every_s, self._began = loop, path, every_s, began
        self._tried_by_clock = False
        self.socket: socket.socket | None = None
        self.cause = "not tried yet"

    def keep(self) -> None:
        """Now, and by the clock until there is a connection."""
        self._tried_by_clock = False
        self.attempt()
        if self.socket is None:
            self.again()

    def again(self) -> None:
        """By the clock, from the next time on."""
        if not self._tried_by_clock:
            self._tried_by_clock = True
            self._loop.after(self._every_s, self.keep)

    def attempt(self) -> None:
        if self.socket is not None:
            return
        try:
            self.socket = connect(self._path)
        except OSError as error:
            self.cause = error.strerror or str(error)
            return
        self.cause = ""
        self._began(self.socket)

    def close(self, why: str = "closed") -> None:
        if self.socket is not None:
            self._loop.forget(self.socket.fileno())
            self.socket.close()
            self.socket, self.cause = None, why
