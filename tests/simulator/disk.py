"""A simulated disk of one end: a log and blocks, with crashes at any point, torn and failing writes, and rollback."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from appliance.q3p.records import BlockEntry, BlockName


class Crash(BaseException):
    """The end's process dies here. Not an Exception: nothing in the product may catch it."""


@dataclass(frozen=True)
class Snapshot:
    """Everything on the disk at one time."""

    log: bytes
    blocks: dict[BlockName, bytes]


@dataclass
class Disk:
    """``effect()`` is called around every change and may raise Crash; ``fail`` is the errno of the next write."""

    random: Random
    log: bytes = b""
    files: dict[BlockName, bytes] = field(default_factory=dict)
    fail: int | None = None

    effect: Callable[[], None] = lambda: None  # set by the end that mounts the disk

    def snapshot(self) -> Snapshot:
        return Snapshot(self.log, dict(self.files))

    def restore(self, snapshot: Snapshot) -> None:
        self.log, self.files = snapshot.log, dict(snapshot.blocks)

    # --- LogFile ---

    def read(self) -> bytes:
        return self.log

    def append(self, data: bytes) -> None:
        self._check_failure(data)
        try:
            self.effect()
        except Crash:
            self.log += data[: self.random.randrange(len(data) + 1)]  # torn anywhere, absent or whole
            raise
        self.log += data
        self.effect()

    def _check_failure(self, data: bytes) -> None:
        if self.fail is not None:
            code, self.fail = self.fail, None
            if code == errno.EIO:  # a failed sync: whether the data reached the disk is anybody's guess
                self.log += data[: self.random.choice((0, len(data), self.random.randrange(len(data))))]
            raise OSError(code, "simulated")

    def truncate(self, length: int) -> None:
        self.effect()
        self.log = self.log[:length]

    def replace(self, data: bytes) -> None:
        self._check_failure(b"")
        self.effect()
        self.log = data
        self.effect()

    # --- BlockStore ---

    def blocks(self) -> dict[BlockName, int]:
        return {name: len(data) for name, data in self.files.items()}

    def destroy(self, name: BlockName) -> None:
        self.effect()
        self.files.pop(name, None)

    def write_block(self, entry: BlockEntry, data: bytes) -> None:
        """Atomic: a block stands under its name whole or not at all."""
        if self.fail is not None:
            code, self.fail = self.fail, None
            raise OSError(code, "simulated")
        self.effect()
        self.files.setdefault(entry.name, data)
        self.effect()
