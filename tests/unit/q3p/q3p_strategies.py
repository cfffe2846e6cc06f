"""Records and messages of every kind, and a fuzz loop over a kept corpus."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from hypothesis import strategies as st

from appliance.q3p import messages as m
from appliance.q3p.records import (
    MAX_CHUNKS_IN_RECORD,
    BlockEntry,
    BlockName,
    Close,
    Direction,
    Epoch,
    Open,
    SessionId,
    Store,
    Void,
    encode,
)

CORPUS = Path(__file__).with_name("corpus")
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
ROUNDS = 3000

u64 = st.integers(0, 2**64 - 1)
names = st.builds(BlockName, st.integers(0, 0xFFFF), u64)
entries = st.lists(st.builds(BlockEntry, names, st.integers(0, 2**32 - 1)), max_size=40).map(tuple)
some_entries = entries.filter(bool)
sessions = st.builds(SessionId, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
chunks = st.lists(u64, min_size=1, max_size=MAX_CHUNKS_IN_RECORD).map(tuple)
digests = st.binary(min_size=32, max_size=32)
missing = st.lists(u64, max_size=m.MAX_MISSING).map(tuple)

records = st.one_of(
    st.builds(Store, u64, some_entries),
    st.builds(Open, u64, st.sampled_from(Direction)),
    st.builds(Close, chunks),
    st.builds(Void, chunks),
    st.builds(Epoch, u64, st.integers(0, 2**32 - 1), sessions),
)
packed_records = st.lists(records.map(encode), min_size=1, max_size=5).map(tuple)
hellos = st.one_of(
    st.builds(m.Init, st.binary(min_size=16, max_size=16)),
    st.builds(m.Challenge, sessions),
    st.builds(m.Response, sessions),
    st.builds(
        m.LogStateMessage,
        sessions,
        u64,
        digests,
        st.booleans(),
        missing,
        st.lists(names, max_size=m.MAX_PICKUP).map(tuple),
    ),
    st.builds(m.HelloRecords, sessions, u64, digests, packed_records),
)
controls = st.one_of(
    st.builds(m.Confirm, sessions, u64, digests),
    st.builds(m.Records, u64, packed_records),
    st.builds(m.Report, u64, u64, u64, missing),
    st.builds(m.Offer, st.binary(min_size=16, max_size=16), entries),
    st.builds(m.Refuse, entries),
    st.builds(m.Ping),
)


def corpus(kind: str) -> list[Path]:
    """Kept inputs, in hexadecimal."""
    return sorted((CORPUS / kind).glob("*.hex"))


def damaged(random: Random, data: bytes, other: bytes) -> bytes:
    """One to three small changes of the kinds that break parsers."""
    out = bytearray(data)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(out) + 1)
        match random.randrange(6):
            case 0 if out:
                out[at - 1] ^= 1 << random.randrange(8)
            case 1 if out:
                out[at - 1] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del out[at : at + random.randrange(1, 9)]
            case 3:
                out[at:at] = random.randbytes(random.randrange(1, 9))
            case 4:
                out[at:] = other[random.randrange(len(other) + 1) :]
            case _:
                out[at:at] = out[: random.randrange(40)]
    return bytes(out)


def fuzz(kind: str, parse: Callable[[bytes], object]) -> None:
    """``parse`` on damaged corpus inputs: a fixed number, or for FUZZ_SECONDS. What ``parse`` raises is a finding, and
    the input, which is told, belongs into the corpus."""
    kept = [bytes.fromhex(path.read_text()) for path in corpus(kind)]
    random = Random(1)
    for data in _inputs(random, kept):
        try:
            parse(data)
        except Exception as error:
            raise AssertionError(f"keep in corpus/{kind}: {data.hex()}") from error


def _inputs(random: Random, kept: list[bytes]) -> Iterator[bytes]:
    until = time.monotonic() + FUZZ_SECONDS
    rounds = 0
    while rounds < ROUNDS or time.monotonic() < until:
        rounds += 1
        yield damaged(random, random.choice(kept), random.choice(kept))
