"""Audit records: what was handed over to whom. Written before the key is given, so that no key leaves unseen; a record
that cannot be written stops the hand-over. One line of text a record, never a key byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from appliance.keys.policy import Credentials

DELIVERED = "delivered"
DISCONNECTED = "disconnected"
REFUSED = "refused"


def consumer(who: Credentials, satype: int, port: int) -> str:
    return f"pid={who.pid} uid={who.uid} gid={who.gid} satype={satype} port={port}"


def delivered(key_id: bytes, length_bytes: int, whom: str) -> str:
    """`whom`: consumer(...), made once for each client."""
    return f"{DELIVERED} key={key_id.hex()} length={length_bytes} {whom}"


def disconnected(who: Credentials, reason: str) -> str:
    return f"{DISCONNECTED} pid={who.pid} uid={who.uid} gid={who.gid} reason={reason}"


class AuditLog:
    """A file that is only ever appended to, 0600. `clock` gives UTC nanoseconds, for people; nothing depends on it."""

    def __init__(self, path: Path, clock: Callable[[], int]) -> None:
        # fd: also for Shelf.hand_over, which writes a record and gives the key in one go
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._clock = clock
        self.records = 0

    def write(self, record: str) -> None:
        """Raises OSError; then the record does not count as written."""
        line = self.line(record)
        if os.write(self.fd, line) != len(line):
            raise OSError("an audit record was written in part only")

    def line(self, record: str) -> bytes:
        """The record as it stands in the file; whoever writes it counts it."""
        self.records += 1
        return f"{self._clock()} {record}\n".encode()

    def close(self) -> None:
        os.close(self.fd)
