"""The link log: durable before it counts, torn anywhere it is read up to the tear, and no illegal record changes it."""

from __future__ import annotations

import copy
import errno
import hashlib
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from q3p_strategies import corpus, fuzz, records

from appliance.q3p import checkpoint
from appliance.q3p.linklog import LinkLog
from appliance.q3p.logstate import LogState
from appliance.q3p.records import (
    MAX_CHUNKS_IN_RECORD,
    MAX_FRAME_BYTES,
    BlockEntry,
    BlockName,
    Close,
    Direction,
    Epoch,
    Open,
    Record,
    RecordError,
    SessionId,
    Store,
    Void,
    encode,
)

SESSION = SessionId(b"n" * 16, b"c" * 16)


class File:
    """A log file in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.fails = False

    def read(self) -> bytes:
        return self.data

    def _check(self) -> None:
        if self.fails:
            raise OSError(errno.EIO, "no")

    def append(self, data: bytes) -> None:
        self._check()
        self.data += data

    def truncate(self, length: int) -> None:
        self._check()
        self.data = self.data[:length]

    def replace(self, data: bytes) -> None:
        self._check()
        self.data = data


def block(number: int, length: int = 1024) -> BlockEntry:
    return BlockEntry(BlockName(1, number), length)


def store(chunk: int) -> Store:
    return Store(chunk, (block(2 * chunk), block(2 * chunk + 1)))


LEGAL: list[Record] = [
    store(0),
    Epoch(0, 0, SESSION),
    store(1),
    store(2),
    Open(1, Direction.MASTER_TO_SLAVE),
    Open(2, Direction.SLAVE_TO_MASTER),
    Close((1,)),
    store(3),
    Void((2,)),
    Epoch(0, 3, SESSION),
    Epoch(3, 0, SESSION),
]


def filled(file: File, log: list[Record] = LEGAL) -> LinkLog:
    made = LinkLog(file)
    for record in log:
        made.append(encode(record))
    return made


def seen(log: LinkLog) -> tuple[object, ...]:
    return log.length, log.digest, copy.deepcopy(log.state)


def test_what_is_written_is_read_back() -> None:
    file = File()
    log = filled(file)
    assert seen(LinkLog(file)) == seen(log)
    assert log.torn_bytes == 0


def test_torn_at_every_byte() -> None:
    file = File()
    lengths, log = [0], LinkLog(file)
    for record in LEGAL:
        log.append(encode(record))
        lengths.append(len(file.data))
    whole = file.data
    for cut in range(len(whole) + 1):
        torn = File(whole[:cut])
        found = LinkLog(torn)
        kept = max(i for i, length in enumerate(lengths) if length <= cut)
        assert found.length == kept and found.digest == log.digest_at(kept)
        assert torn.data == whole[: lengths[kept]] and found.torn_bytes == cut - lengths[kept]
        for record in LEGAL[kept:]:
            found.append(encode(record))
        assert torn.data == whole


def test_damage_before_the_tail_is_no_torn_tail() -> None:
    """Cutting there would forget records, durably, that key was spent by. The file is left for people to look at."""
    file = File()
    log = filled(file)
    starts = [0]
    for chunk in range(4, 40):
        starts.append(len(file.data))
        log.append(encode(store(chunk)))
    whole = file.data
    for place in range(starts[1], len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file = File(bytes(damaged))
        if max(start for start in starts if start <= place) < len(whole) - MAX_FRAME_BYTES:
            with pytest.raises(RecordError, match="damaged"):
                LinkLog(file)
            assert file.data == damaged
        else:
            assert 0 < LinkLog(file).torn_bytes <= MAX_FRAME_BYTES


def test_the_largest_torn_record_is_cut() -> None:
    file = File()
    log = filled(file)
    for chunk in range(4, 4 + MAX_CHUNKS_IN_RECORD):
        log.append(encode(store(chunk)))
    before = file.data
    log.append(encode(Void(tuple(range(4, 4 + MAX_CHUNKS_IN_RECORD)))))
    torn = File(file.data[:-1] + bytes([file.data[-1] ^ 1]))
    assert LinkLog(torn).torn_bytes == len(file.data) - len(before) > 1200
    assert torn.data == before


ILLEGAL: dict[str, list[Record]] = {
    "a chunk number left out": [store(5)],
    "a chunk number again": [store(3)],
    "a block again": [Store(4, (block(0),))],
    "a block twice": [Store(4, (block(50), block(50)))],
    "a block of no whole words": [Store(4, (block(50, 1023),))],
    "an empty block": [Store(4, (block(50, 0),))],
    "OPEN of an open chunk": [store(4), Open(4, Direction.MASTER_TO_SLAVE), Open(4, Direction.MASTER_TO_SLAVE)],
    "OPEN of a closed chunk": [Open(1, Direction.MASTER_TO_SLAVE)],
    "OPEN of an epoch chunk": [Open(3, Direction.MASTER_TO_SLAVE)],
    "OPEN of no chunk": [Open(9, Direction.MASTER_TO_SLAVE)],
    "CLOSE of a chunk not open": [store(4), Close((4,))],
    "CLOSE of one good and one bad": [store(4), Open(4, Direction.MASTER_TO_SLAVE), Close((4, 3))],
    "CLOSE of a chunk twice": [store(4), Open(4, Direction.MASTER_TO_SLAVE), Close((4, 4))],
    "VOID of a void chunk": [Void((2,))],
    "VOID of no chunk": [Void((9,))],
    "EPOCH with a slot used": [Epoch(3, 0, SESSION)],
    "EPOCH with a slot below": [Epoch(3, 4, SESSION), Epoch(3, 1, SESSION)],
    "EPOCH with a slot beyond the chunk": [Epoch(3, 8, SESSION)],
    "EPOCH on a spent chunk": [Epoch(0, 5, SESSION)],
    "EPOCH while chunks are open": [store(4), Open(4, Direction.MASTER_TO_SLAVE), Epoch(3, 1, SESSION)],
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_records_are_refused_and_change_nothing(name: str) -> None:
    file = File()
    *before, illegal = ILLEGAL[name]
    log = filled(file, LEGAL + before)
    earlier, data = seen(log), file.data
    with pytest.raises(RecordError):
        log.append(encode(illegal))
    assert seen(log) == earlier and file.data == data


def test_open_before_any_epoch_is_refused() -> None:
    with pytest.raises(RecordError, match="before any EPOCH"):
        filled(File(), [store(0), Open(0, Direction.MASTER_TO_SLAVE)])


@given(st.lists(records, max_size=30))
def test_any_record_either_takes_effect_or_changes_nothing(candidates: list[Record]) -> None:
    state = LogState()
    for record in [*LEGAL[:4], *candidates]:
        before = copy.deepcopy(state)
        try:
            state.apply(record)
        except RecordError:
            assert state == before


def test_a_record_in_another_form_is_refused() -> None:
    log = filled(File())
    with pytest.raises(RecordError):
        log.append(encode(Void((3,))) + b"\0")


def test_a_whole_record_against_the_rules_is_no_torn_tail() -> None:
    """A frame whose digest is right was written so: the file is not cut, the store is to be looked at."""
    file = File()
    filled(file, LEGAL[:1])
    other = File()
    log = LinkLog(other)
    log.append(encode(store(0)))
    log.state = LogState(next_chunk=0)  # forget, so that it writes what no log may hold
    log.append(encode(store(0)))
    with pytest.raises(RecordError):
        LinkLog(other)


def test_a_failed_write_is_told() -> None:
    file = File()
    log = filled(file)
    file.fails = True
    with pytest.raises(OSError):
        log.append(encode(store(4)))


# --- compaction ------------------------------------------------------------------------------------------------------


def long_life(log: LinkLog, random: Random, count: int) -> None:
    """A plausible history: chunks stored, opened, closed, voided, epochs in between."""
    while log.length < count:
        state = log.state
        common = list(state.common)
        if len(common) < 4:
            log.append(encode(store(state.next_chunk)))
        elif state.opened and random.random() < 0.6:
            number = random.choice(list(state.opened))
            log.append(encode(random.choice((Close, Void))((number,))))
            state.forget_ended(number)
        elif state.session is not None and random.random() < 0.7:
            log.append(encode(Open(common[0], random.choice(list(Direction)))))
        elif not state.opened:
            chunk, slot = (common[0], 0) if state.epoch_chunk is None else (state.epoch_chunk, state.next_slot)
            if slot >= state.chunks[chunk].slots:
                chunk, slot = common[0], 0
            log.append(encode(Epoch(chunk, slot, SESSION)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20), st.integers(0, 300))
def test_a_compacted_log_goes_on_like_the_whole_one(seed: int, keep: int, count: int) -> None:
    whole, short = LinkLog(File()), LinkLog(File(), keep)
    long_life(whole, Random(seed), count)
    for index in range(whole.length):
        data = whole.record(index)
        short.append(data)
        compacted = short.compact(short.length)
        assert not compacted or short.length - short.base >= keep
    assert (short.length, short.digest) == (whole.length, whole.digest)
    assert short.base == 0 or short.length - short.base < 3 * keep
    live = {chunk.number: chunk for chunk in whole.state.live()}
    assert {chunk.number: chunk for chunk in short.state.live()} == live
    for name in ("next_chunk", "epoch_chunk", "next_slot", "session", "common_bytes"):
        assert getattr(short.state, name) == getattr(whole.state, name)
    assert all(name in short.state.stored or short.state.is_past(name) for name in whole.state.stored)


def test_nothing_is_forgotten_that_the_peer_has_not() -> None:
    log = LinkLog(File(), 4)
    long_life(log, Random(1), 40)
    assert not log.compact(3) and log.base == 0
    assert log.compact(40) and log.base > 0


def refuse_or_accept(data: bytes) -> None:
    try:
        found, end = checkpoint.decode(data)
    except RecordError:
        return
    if found is not None:
        again = checkpoint.encode(found)
        reread = checkpoint.decode(again)[0]
        assert reread is not None and checkpoint.encode(reread) == again
    assert 0 <= end <= len(data)


@given(st.binary(max_size=200))
def test_any_checkpoint(data: bytes) -> None:
    refuse_or_accept(data)
    refuse_or_accept(checkpoint.MAGIC + data)


def test_fuzz() -> None:
    fuzz("checkpoint", refuse_or_accept)
    fuzz("checkpoint", lambda data: refuse_or_accept(under_right_digest(data)))


def under_right_digest(data: bytes) -> bytes:
    content = data[len(checkpoint.MAGIC) + 4 : -32]
    length = len(content).to_bytes(4, "big")
    return checkpoint.MAGIC + length + content + hashlib.sha256(content).digest()


@pytest.mark.parametrize("path", corpus("checkpoint"), ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    data = bytes.fromhex(path.read_text())
    if path.stem.startswith("good"):
        assert checkpoint.decode(data)[0] is not None
    else:
        with pytest.raises(RecordError):
            checkpoint.decode(data)
