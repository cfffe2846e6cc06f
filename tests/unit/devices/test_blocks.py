"""Blocks made in C, and the fibre's messages."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.devices import fibrewire
from appliance.devices.block import Block, expand
from appliance.native import ffi
from appliance.native.keymem import KeyMemory


def content(block: Block) -> bytes:
    return bytes(ffi.buffer(block.memory.at(0), block.length_bytes))


def make(**arguments: Any) -> Block:
    return expand(7, 4096, 0.03, 0, bytearray(range(32)), **arguments)


def test_a_block_is_shake256_of_its_seed_and_the_seed_is_wiped() -> None:
    seed = bytearray(range(32))
    block = expand(7, 4096, 0.03, 0, seed)
    expected = hashlib.shake_256(b"QBB simulated block v1\0" + bytes(range(32))).digest(4096)
    assert content(block) == expected
    assert seed == bytes(32)
    block.close()


def test_a_flipped_bit_is_one_bit() -> None:
    one, other = make(), make(flip=8 * 100 + 3)
    difference = [a ^ b for a, b in zip(content(one), content(other), strict=True)]
    assert [(i, d) for i, d in enumerate(difference) if d] == [(100, 8)]
    one.close()
    other.close()


def test_a_pattern_fills_the_block() -> None:
    block = make(pattern=b"abc")
    assert content(block) == (b"abc" * 1366)[:4096]
    block.close()


def test_a_closed_block_is_wiped_and_its_descriptor_is_gone() -> None:
    block = make()
    kept = os.dup(block.fd)
    fd = block.fd
    block.close()
    with KeyMemory.attach(kept, 4096) as seen:
        assert bytes(ffi.buffer(seen.at(0), 4096)) == bytes(4096)
    os.close(kept)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    block.close()


def test_a_block_that_may_still_be_read_is_given_back_unwiped() -> None:
    block = make()
    whole, kept = content(block), os.dup(block.fd)
    block.unanswered = 1
    block.close()
    with KeyMemory.attach(kept, 4096) as seen:
        assert bytes(ffi.buffer(seen.at(0), 4096)) == whole
    os.close(kept)


def test_a_seed_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        expand(1, 4096, 0.0, 0, bytearray(31))


messages = st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.text(max_size=5)), max_size=4)


@given(st.lists(st.tuples(messages, st.binary(max_size=64)), max_size=5), st.integers(1, 50))
def test_messages_come_out_whole_however_they_are_cut(sent: list[tuple[dict[str, Any], bytes]], step: int) -> None:
    stream = b"".join(bytes(fibrewire.encode(message, secret)) for message, secret in sent)
    splitter = fibrewire.Splitter()
    got = [item for at in range(0, len(stream), step) for item in splitter.feed(stream[at : at + step])]
    assert [(message, bytes(secret)) for message, secret in got] == sent


@given(st.binary())
def test_any_bytes_are_messages_or_a_wire_error(data: bytes) -> None:
    try:
        for message, secret in fibrewire.Splitter().feed(data):
            assert isinstance(message, dict)
            assert len(secret) <= fibrewire.LONGEST_SECRET
    except fibrewire.WireError:
        pass
