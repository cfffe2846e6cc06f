"""Checkpoints of the link log: what its first records mean, so that they may be forgotten.

A log file is an optional checkpoint, then record frames: ``"QBBLOG1\\n" | length u32 | JSON | SHA-256 of the JSON``. A
frame never begins like this, since records are shorter. The checkpoint keeps what later records need: live chunks, the
next chunk number, the epoch slot, and for the names of blocks that were stored and are gone, a watermark for each
device: a block up to it is never taken again. A peer whose log ends below the checkpoint cannot be replayed; its store
is quarantined (only a rollback further than the records kept leads there).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from appliance.q3p.logstate import Chunk, ChunkState, LogState
from appliance.q3p.records import BlockEntry, BlockName, Direction, Epoch, RecordError, SessionId
from appliance.q3p.settings import BOOTSTRAP_DEVICE

MAGIC = b"QBBLOG1\n"


class Checkpoint(NamedTuple):
    """The log's first ``length`` records, their chain digest, and the state they lead to."""

    length: int
    digest: bytes
    state: LogState


def encode(checkpoint: Checkpoint) -> bytes:
    """As it stands at the head of the log file."""
    state = checkpoint.state
    live = {entry.name for chunk in state.live() for entry in chunk.entries}
    kept = sorted(name for name in state.stored if name in live or name.device == BOOTSTRAP_DEVICE)
    watermarks = dict(state.watermarks)
    for name in state.stored.difference(kept):
        watermarks[name.device] = max(watermarks.get(name.device, -1), name.block_id)
    epoch = state.session
    content = {
        "length": checkpoint.length,
        "digest": checkpoint.digest.hex(),
        "next_chunk": state.next_chunk,
        "epoch_chunk": state.epoch_chunk,
        "next_slot": state.next_slot,
        "epoch": None if epoch is None else [epoch.chunk, epoch.slot, *(part.hex() for part in epoch.session)],
        "chunks": [
            [chunk.number, chunk.state.value, chunk.direction, [[*e.name, e.length_bytes] for e in chunk.entries]]
            for chunk in state.live()
        ],
        "stored": [list(name) for name in kept],
        "watermarks": sorted(watermarks.items()),
    }
    data = json.dumps(content, separators=(",", ":")).encode()
    return MAGIC + len(data).to_bytes(4, "big") + data + hashlib.sha256(data).digest()


def decode(file: bytes) -> tuple[Checkpoint | None, int]:
    """The checkpoint at the head of a log file, if there is one, and where the records begin. Raises RecordError."""
    if not file.startswith(MAGIC):
        return None, 0
    start = len(MAGIC) + 4
    end = start + int.from_bytes(file[len(MAGIC) : start], "big")
    data, digest = file[start:end], file[end : end + 32]
    if hashlib.sha256(data).digest() != digest:
        raise RecordError("the checkpoint at the head of the log is damaged")
    try:
        content = json.loads(data)
        return Checkpoint(_whole(content["length"]), bytes.fromhex(content["digest"]), _state(content)), end + 32
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"the checkpoint at the head of the log makes no sense: {error}") from None


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} where a whole number is due")
    return value


def _state(content: dict[str, Any]) -> LogState:
    state = LogState(next_chunk=_whole(content["next_chunk"]), next_slot=_whole(content["next_slot"]))
    for number, kind, direction, entries in content["chunks"]:
        blocks = tuple(BlockEntry(BlockName(*map(_whole, name)), _whole(length)) for *name, length in entries)
        chunk = Chunk(_whole(number), blocks, ChunkState(kind), None if direction is None else Direction(direction))
        state.chunks[number] = chunk
        if chunk.state is ChunkState.COMMON:
            state.common[number] = chunk
            state.common_bytes += chunk.length_bytes
        elif chunk.state is ChunkState.OPEN:
            state.opened[number] = chunk
    state.stored = {BlockName(*map(_whole, name)) for name in content["stored"]}
    state.stored.update(entry.name for chunk in state.chunks.values() for entry in chunk.entries)
    state.watermarks = {_whole(device): block for device, block in content["watermarks"]}
    state.epoch_chunk = content["epoch_chunk"]
    if state.epoch_chunk is not None and state.chunks[state.epoch_chunk].state is not ChunkState.EPOCH:
        raise ValueError(f"chunk {state.epoch_chunk} is not the epochs'")
    if content["epoch"] is not None:
        chunk, slot, nonce, challenge = content["epoch"]
        state.session = Epoch(_whole(chunk), _whole(slot), SessionId(bytes.fromhex(nonce), bytes.fromhex(challenge)))
    return state
