"""Records of the link log: what both ends agree on about their key, and the chain of digests over it.

A record on the wire and on disk is ``kind u8 | body``; on disk each stands in a frame ``length u16 | record | chain
digest (32)``. The chain digest of record i is SHA-256(digest of i - 1 | i u64 | record), so one digest names a whole
log. All integers are big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, NamedTuple

DIGEST_BYTES = 32
EMPTY_DIGEST = bytes(DIGEST_BYTES)
SLOT_BYTES = 256  # an epoch's slot: two halves of H (16) and 14 starter words (112)
MAX_RECORD_BYTES = 1200  # a record travels in one packet
MAX_FRAME_BYTES = 2 + MAX_RECORD_BYTES + DIGEST_BYTES


class RecordError(Exception):
    """A record that no end of this protocol writes: malformed, or against the log's rules."""


class Direction(IntEnum):
    """Which way a chunk's words flow; the master is the end with the lower node address."""

    MASTER_TO_SLAVE = 0
    SLAVE_TO_MASTER = 1


class BlockName(NamedTuple):
    """A device block, named alike at both ends: device number on the link and the device's block id."""

    device: int
    block_id: int

    def __str__(self) -> str:
        return f"{self.device:04x}-{self.block_id:016x}"

    @classmethod
    def parse(cls, text: str) -> BlockName:
        device, _, block_id = text.partition("-")
        if len(device) != 4 or len(block_id) != 16:
            raise ValueError(f"{text!r} names no device block")
        return cls(int(device, 16), int(block_id, 16))


class BlockEntry(NamedTuple):
    """A block and its length."""

    name: BlockName
    length_bytes: int


class SessionId(NamedTuple):
    """A session of the hello: the initiator's nonce and the responder's challenge, 16 bytes each."""

    nonce: bytes
    challenge: bytes


_ENTRY = struct.Struct(">HQI")
_CHUNK = struct.Struct(">Q")
_EPOCH = struct.Struct(">QI16s16s")
_OPEN = struct.Struct(">QB")
ENTRY_BYTES = _ENTRY.size


def pack_entries(entries: tuple[BlockEntry, ...]) -> bytes:
    return b"".join(_ENTRY.pack(*entry.name, entry.length_bytes) for entry in entries)


def unpack_entries(data: bytes) -> tuple[BlockEntry, ...]:
    """Raises RecordError where the bytes are no whole entries."""
    if len(data) % ENTRY_BYTES:
        raise RecordError(f"{len(data)} bytes are no whole number of block entries")
    return tuple(BlockEntry(BlockName(d, b), n) for d, b, n in _ENTRY.iter_unpack(data))


@dataclass(frozen=True, slots=True)
class Store:
    """The blocks, found equal at both ends, become chunk ``chunk``; the chunk's bytes are theirs, in this order."""

    kind: ClassVar[int] = 1
    chunk: int
    entries: tuple[BlockEntry, ...]

    def body(self) -> bytes:
        return _CHUNK.pack(self.chunk) + pack_entries(self.entries)

    @classmethod
    def parse(cls, data: bytes) -> Store:
        if len(data) <= _CHUNK.size:
            raise RecordError("STORE without blocks")
        return cls(_CHUNK.unpack_from(data)[0], unpack_entries(data[_CHUNK.size :]))


@dataclass(frozen=True, slots=True)
class Open:
    """The chunk's words join the stream of one direction in the current epoch."""

    kind: ClassVar[int] = 2
    chunk: int
    direction: Direction

    def body(self) -> bytes:
        return _OPEN.pack(self.chunk, self.direction)

    @classmethod
    def parse(cls, data: bytes) -> Open:
        if len(data) != _OPEN.size or data[-1] > 1:
            raise RecordError("OPEN of wrong length or direction")
        chunk, direction = _OPEN.unpack(data)
        return cls(chunk, Direction(direction))


def _unpack_chunks(data: bytes, what: str) -> tuple[int, ...]:
    if not data or len(data) % _CHUNK.size:
        raise RecordError(f"{what} of {len(data)} bytes")
    return tuple(chunk for (chunk,) in _CHUNK.iter_unpack(data))


@dataclass(frozen=True, slots=True)
class Close:
    """Both ends are done with these open chunks: their bytes are wiped."""

    kind: ClassVar[int] = 3
    chunks: tuple[int, ...]

    def body(self) -> bytes:
        return b"".join(map(_CHUNK.pack, self.chunks))

    @classmethod
    def parse(cls, data: bytes) -> Close:
        return cls(_unpack_chunks(data, "CLOSE"))


@dataclass(frozen=True, slots=True)
class Epoch:
    """Session ``session`` takes slot ``slot`` of the epoch chunk: H and starter words of both directions."""

    kind: ClassVar[int] = 4
    chunk: int
    slot: int
    session: SessionId

    def body(self) -> bytes:
        return _EPOCH.pack(self.chunk, self.slot, *self.session)

    @classmethod
    def parse(cls, data: bytes) -> Epoch:
        if len(data) != _EPOCH.size:
            raise RecordError(f"EPOCH of {len(data)} bytes")
        chunk, slot, nonce, challenge = _EPOCH.unpack(data)
        return cls(chunk, slot, SessionId(nonce, challenge))


@dataclass(frozen=True, slots=True)
class Void:
    """These chunks are lost to use: open at a restart, or not held by an end."""

    kind: ClassVar[int] = 5
    chunks: tuple[int, ...]

    def body(self) -> bytes:
        return b"".join(map(_CHUNK.pack, self.chunks))

    @classmethod
    def parse(cls, data: bytes) -> Void:
        return cls(_unpack_chunks(data, "VOID"))


Record = Store | Open | Close | Epoch | Void
_KINDS: dict[int, type[Record]] = {cls.kind: cls for cls in (Store, Open, Close, Epoch, Void)}
MAX_CHUNKS_IN_RECORD = (MAX_RECORD_BYTES - 1) // _CHUNK.size


def encode(record: Record) -> bytes:
    return bytes([record.kind]) + record.body()


def decode(data: bytes) -> Record:
    """Raises RecordError."""
    if not data or len(data) > MAX_RECORD_BYTES:
        raise RecordError(f"record of {len(data)} bytes (1 to {MAX_RECORD_BYTES} are right)")
    kind = _KINDS.get(data[0])
    if kind is None:
        raise RecordError(f"unknown record kind {data[0]}")
    return kind.parse(data[1:])


def chain(previous: bytes, index: int, record: bytes) -> bytes:
    """Digest of the log up to and including record ``index``."""
    return hashlib.sha256(previous + _CHUNK.pack(index) + record).digest()


def frame(record: bytes, digest: bytes) -> bytes:
    """The record as it stands in the log file."""
    return struct.pack(">H", len(record)) + record + digest


def read_frames(data: bytes, offset: int, index: int, digest: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (record, chain digest, end offset) for each whole frame; stop at a torn or broken one.

    Each frame is appended and synced alone, so a crash leaves at most one torn, and nothing after it: the caller cuts
    the file at the last end offset unless more than MAX_FRAME_BYTES are behind it.
    """
    while offset + 2 <= len(data):
        length = int.from_bytes(data[offset : offset + 2], "big")
        end = offset + 2 + length + DIGEST_BYTES
        if length == 0 or end > len(data):
            return
        record = data[offset + 2 : offset + 2 + length]
        digest = chain(digest, index, record)
        if data[end - DIGEST_BYTES : end] != digest:
            return
        yield record, digest, end
        index += 1
        offset = end
