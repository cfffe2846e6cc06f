"""What goes back to whoever asked."""

from __future__ import annotations


class Refused(Exception):
    """A request that is not granted. `errno` goes into the answer; `reason` is for people."""

    def __init__(self, errno: int, reason: str) -> None:
        super().__init__(reason)
        self.errno = errno
        self.reason = reason
