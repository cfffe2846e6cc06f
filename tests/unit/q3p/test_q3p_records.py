"""Records: every one round-trips, any other bytes are refused, and a log file is read up to its first torn frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from q3p_strategies import corpus, fuzz, names, records

from appliance.q3p.records import (
    EMPTY_DIGEST,
    MAX_RECORD_BYTES,
    BlockName,
    Record,
    RecordError,
    chain,
    decode,
    encode,
    frame,
    read_frames,
)


@given(records)
def test_records_round_trip(record: Record) -> None:
    data = encode(record)
    assert len(data) <= MAX_RECORD_BYTES
    assert decode(data) == record


def parse(data: bytes) -> None:
    """Bytes are refused, or mean one record that is written in just these bytes."""
    try:
        record = decode(data)
    except RecordError:
        return
    assert encode(record) == data


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parse(data)


def test_fuzz() -> None:
    fuzz("record", parse)


@pytest.mark.parametrize("path", corpus("record"), ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    data = bytes.fromhex(path.read_text())
    parse(data)
    if path.stem.startswith("good"):
        decode(data)
    else:
        with pytest.raises(RecordError):
            decode(data)


@given(names)
def test_block_names_read_back(name: BlockName) -> None:
    assert BlockName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "0000", "0000-1", "00000-0000000000000001", "0000-000000000000000g", "burnt"])
def test_other_file_names_are_no_blocks(text: str) -> None:
    with pytest.raises(ValueError):
        BlockName.parse(text)


@given(st.lists(records.map(encode), max_size=6), st.data())
def test_frames_are_read_up_to_the_first_broken_byte(log: list[bytes], data: st.DataObject) -> None:
    digest, file, ends = EMPTY_DIGEST, b"", [0]
    for index, record in enumerate(log):
        digest = chain(digest, index, record)
        file += frame(record, digest)
        ends.append(len(file))
    assert [found for found, _, _ in read_frames(file, 0, 0, EMPTY_DIGEST)] == log
    if file:
        at = data.draw(st.integers(0, len(file) - 1))
        broken = file[:at] + bytes([file[at] ^ data.draw(st.integers(1, 255))]) + file[at + 1 :]
        whole = sum(end <= at for end in ends) - 1
        assert [found for found, _, _ in read_frames(broken, 0, 0, EMPTY_DIGEST)] == log[:whole]
