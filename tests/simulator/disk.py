"""A simulated disk of one end: a log and blocks, with crashes at any point, torn and failing writes, and rollback."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from random import Random

from appliance.q3p import checkpoint
from appliance.q3p.records import EMPTY_DIGEST, BlockEntry, BlockName, read_frames


class Crash(BaseException):
    """The end's process dies here. Not an Exception: nothing in the product may catch it."""


@dataclass(frozen=True)
class Snapshot:
    """Everything on the disk at one time."""

    log: bytes
    blocks: dict[BlockName, bytes]
    new: frozenset[BlockName]


@dataclass
class Disk:
    """``effect()`` is called around every change and may raise Crash; ``fail`` is the errno of the next write; nothing
    can be written while ``full``; ``appended(frame)`` is called when a record is durable."""

    random: Random
    log: bytes = b""
    files: dict[BlockName, bytes] = field(default_factory=dict)
    new: set[BlockName] = field(default_factory=set)  # of the files: unsettled
    fail: int | None = None
    full: bool = False
    effect: Callable[[], None] = lambda: None  # set by the end that mounts the disk
    appended: Callable[[bytes], None] = lambda data: None

    def snapshot(self) -> Snapshot:
        return Snapshot(self.log, dict(self.files), frozenset(self.new))

    def restore(self, snapshot: Snapshot) -> None:
        self.log, self.files, self.new = snapshot.log, dict(snapshot.blocks), set(snapshot.new)

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
        self.appended(data)
        self.effect()

    def _check_failure(self, data: bytes) -> None:
        """``data``: what may be half written nevertheless."""
        if self.full:
            self.log += data[: self.random.randrange(len(data) + 1)] if self.random.random() < 0.5 else b""
            raise OSError(errno.ENOSPC, "simulated")
        if self.fail is not None:
            code, self.fail = self.fail, None
            if code == errno.EIO:  # a failed sync: whether the data reached the disk is anybody's guess
                self.log += data[: self.random.choice((0, len(data), self.random.randrange(len(data) + 1)))]
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
        self.new.discard(name)

    def unsettled(self) -> set[BlockName]:
        return set(self.new)

    def settle(self, names: Collection[BlockName]) -> None:
        for name in sorted(names):
            self.effect()
            self.new.remove(name)

    def write_block(self, entry: BlockEntry, data: bytes, settled: bool) -> bool:
        """Atomic: a block stands under its name whole or not at all. False when another one does already."""
        self._check_failure(b"")
        self.effect()
        if self.files.setdefault(entry.name, data) is not data:
            return self.files[entry.name] == data
        if not settled:
            self.new.add(entry.name)
        self.effect()
        return True


def log_span(log: bytes) -> tuple[int, int]:
    """Number of the first record that a log file keeps, and of the one after its last."""
    head, offset = checkpoint.decode(log)
    base, digest = (head.length, head.digest) if head else (0, EMPTY_DIGEST)
    return base, base + sum(1 for _ in read_frames(log, offset, base, digest))
