"""What a link log means: which chunk is in which state, and the rules that a next record must keep.

The same code at both ends, for records written here and records received.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from appliance.q3p.records import (
    SLOT_BYTES,
    BlockEntry,
    BlockName,
    Close,
    Direction,
    Epoch,
    Open,
    Record,
    RecordError,
    Store,
    Void,
)


class ChunkState(Enum):
    """Life of a chunk. SPENT and VOID are the end: wiped at both ends."""

    COMMON = "common"
    OPEN = "open"
    EPOCH = "epoch"
    SPENT = "spent"
    VOID = "void"


LIVE = frozenset({ChunkState.COMMON, ChunkState.OPEN, ChunkState.EPOCH})


@dataclass(slots=True)
class Chunk:
    """A chunk of common key: the blocks whose bytes it is, and what the log says of it."""

    number: int
    entries: tuple[BlockEntry, ...]
    state: ChunkState = ChunkState.COMMON
    direction: Direction | None = None

    @property
    def length_bytes(self) -> int:
        return sum(entry.length_bytes for entry in self.entries)

    @property
    def slots(self) -> int:
        """How many epoch slots fit; a slot never crosses blocks."""
        return sum(entry.length_bytes // SLOT_BYTES for entry in self.entries)

    def slot_place(self, slot: int) -> tuple[BlockName, int]:
        """Block and byte offset where epoch slot ``slot`` begins."""
        for entry in self.entries:
            fit = entry.length_bytes // SLOT_BYTES
            if slot < fit:
                return entry.name, slot * SLOT_BYTES
            slot -= fit
        raise RecordError(f"chunk {self.number} has no such epoch slot")


@dataclass(slots=True)
class LogState:
    """What a log means. ``apply`` either takes the record or raises RecordError and changes nothing."""

    chunks: dict[int, Chunk] = field(default_factory=dict)
    common: dict[int, Chunk] = field(default_factory=dict)  # those that may be opened, oldest first
    opened: dict[int, Chunk] = field(default_factory=dict)
    common_bytes: int = 0
    stored: set[BlockName] = field(default_factory=set)
    next_chunk: int = 0
    epoch_chunk: int | None = None
    next_slot: int = 0
    session: Epoch | None = None
    watermarks: dict[int, int] = field(default_factory=dict)  # by device: blocks up to this id were forgotten

    def apply(self, record: Record) -> None:
        match record:
            case Store():
                self._store(record)
            case Open():
                self._open(record)
            case Close():
                self._end(record.chunks, {ChunkState.OPEN}, ChunkState.SPENT)
            case Void():
                self._end(record.chunks, LIVE, ChunkState.VOID)
            case Epoch():
                self._epoch(record)

    def _store(self, record: Store) -> None:
        if record.chunk != self.next_chunk:
            raise RecordError(f"STORE of chunk {record.chunk} where {self.next_chunk} is next")
        names = [entry.name for entry in record.entries]
        if len(set(names)) != len(names) or self.stored.intersection(names):
            raise RecordError(f"STORE of chunk {record.chunk} takes a block a second time")
        if any(entry.length_bytes == 0 or entry.length_bytes % 8 for entry in record.entries):
            raise RecordError(f"STORE of chunk {record.chunk} has a block of no whole words")
        chunk = Chunk(record.chunk, record.entries)
        self.chunks[record.chunk] = self.common[record.chunk] = chunk
        self.common_bytes += chunk.length_bytes
        self.stored.update(names)
        self.next_chunk += 1

    def _open(self, record: Open) -> None:
        chunk = self._chunk(record.chunk)
        if self.session is None:
            raise RecordError(f"OPEN of chunk {record.chunk} before any EPOCH")
        if chunk.state is not ChunkState.COMMON:
            raise RecordError(f"OPEN of chunk {record.chunk}, which is {chunk.state.value}")
        self._move(chunk, ChunkState.OPEN)
        chunk.direction = record.direction

    def _end(
        self, numbers: tuple[int, ...], allowed: frozenset[ChunkState] | set[ChunkState], state: ChunkState
    ) -> None:
        chunks = [self._chunk(number) for number in numbers]
        if len(set(numbers)) != len(numbers):
            raise RecordError(f"{state.value} names a chunk twice")
        for chunk in chunks:
            if chunk.state not in allowed:
                raise RecordError(f"chunk {chunk.number} is {chunk.state.value} and cannot become {state.value}")
        for chunk in chunks:
            self._move(chunk, state)
            if chunk.number == self.epoch_chunk:
                self.epoch_chunk = None

    def _epoch(self, record: Epoch) -> None:
        chunk = self._chunk(record.chunk)
        if record.chunk == self.epoch_chunk:
            if record.slot < self.next_slot:
                raise RecordError(f"EPOCH names slot {record.slot} of chunk {record.chunk} again")
        elif chunk.state is not ChunkState.COMMON:
            raise RecordError(f"EPOCH on chunk {record.chunk}, which is {chunk.state.value}")
        if record.slot >= chunk.slots:
            raise RecordError(f"EPOCH names slot {record.slot} of chunk {record.chunk}, which has {chunk.slots}")
        if self.opened:
            raise RecordError("EPOCH while chunks of an older epoch are open")
        if self.epoch_chunk is not None and self.epoch_chunk != record.chunk:
            self._move(self.chunks[self.epoch_chunk], ChunkState.SPENT)  # no slot of it will be named again
        self._move(chunk, ChunkState.EPOCH)
        self.epoch_chunk, self.next_slot, self.session = record.chunk, record.slot + 1, record

    def _chunk(self, number: int) -> Chunk:
        chunk = self.chunks.get(number)
        if chunk is None:
            raise RecordError(f"no chunk {number}")
        return chunk

    def _move(self, chunk: Chunk, state: ChunkState) -> None:
        if chunk.state is ChunkState.COMMON and state is not ChunkState.COMMON:
            del self.common[chunk.number]
            self.common_bytes -= chunk.length_bytes
        self.opened.pop(chunk.number, None)
        if state is ChunkState.OPEN:
            self.opened[chunk.number] = chunk
        chunk.state = state

    def live(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks.values() if chunk.state in LIVE]

    def is_past(self, name: BlockName) -> bool:
        """Was the block perhaps stored in records that are forgotten? Then it may not be taken again."""
        return name not in self.stored and name.block_id <= self.watermarks.get(name.device, -1)

    def forget_ended(self, number: int) -> None:
        """Drop an ended chunk whose bytes are wiped from memory; its number and blocks stay used."""
        chunk = self.chunks[number]
        if chunk.state not in LIVE:
            del self.chunks[number]
