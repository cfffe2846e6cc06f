"""The C core against its own tests (under sanitizers and valgrind) and against an independent reference in Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.native import ffi, lib

sys.path.insert(0, str(Path(__file__).parent))
import reference_hash as reference

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("portable", "pclmulqdq", "vpclmulqdq")
KINDS = [kind for kind in range(len(NAMES)) if lib.qbb_hash_available() >> kind & 1]


def make(target: str) -> None:
    done = subprocess.run(
        ["make", "-s", "-C", str(ROOT / "csrc" / "tests"), target], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("clang") is None, reason="needs clang for its sanitizers")
def test_c_unit_tests_pass_under_sanitizers() -> None:
    make("check")


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_hash_and_tag_take_constant_time_and_the_check_sees_a_planted_branch() -> None:
    make("ct")


@pytest.fixture(params=KINDS, ids=[NAMES[kind] for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> Iterator[int]:
    before = lib.qbb_hash_selected()
    assert lib.qbb_hash_select(request.param) == 0
    yield request.param
    lib.qbb_hash_select(before)


def little(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text), "little")


def test_the_reference_gives_the_vectors_of_rfc_8452() -> None:
    a, b = little("66e94bd4ef8a2c3b884cfa59ca342b2e"), little("ff000000000000000000000000000000")
    assert a ^ b == little("99e94bd4ef8a2c3b884cfa59ca342b2e")
    assert reference.multiply(a, b) == little("37856175e9dc9df26ebc6d6171aa0ae9")
    assert reference.dot(a, b) == little("ebe563401e7e91ea3ad6426b8140c394")
    h = bytes.fromhex("25629347589242761d31f826ba4b757b")
    blocks = bytes.fromhex("4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362")
    assert reference.polyval(h, blocks).hex() == "f7a3b47b846119fae5b7866cf5e5b77e"


def test_the_self_test_uses_the_references_answers() -> None:
    made = (ROOT / "csrc" / "core" / "known_answers.inc").read_text()
    assert made.strip() == reference.known_answers().strip()
    assert lib.qbb_selftest() == 0


def test_the_fastest_kind_is_chosen() -> None:
    assert lib.qbb_hash_selected() == KINDS[-1]
    assert ffi.string(lib.qbb_hash_name(KINDS[-1])).decode() == NAMES[KINDS[-1]]


BLOCKS = st.binary(min_size=16, max_size=16)


@given(h=BLOCKS, start=BLOCKS, data=st.binary(max_size=700))
def test_every_kind_gives_the_references_hash(h: bytes, start: bytes, data: bytes) -> None:
    expected = reference.polyval(h, data, start)
    key, total = ffi.new("qbb_hash_key *"), ffi.new("uint8_t[16]")
    lib.qbb_hash_key_expand(key, h)
    before = lib.qbb_hash_selected()
    try:
        for each in KINDS:
            assert lib.qbb_hash_select(each) == 0
            ffi.memmove(total, start, 16)
            lib.qbb_hash_update(key, total, data, len(data))
            assert bytes(total) == expected, NAMES[each]
    finally:
        lib.qbb_hash_select(before)


@given(h=BLOCKS, data=st.binary(max_size=300))
def test_fingerprints_are_the_references_hash_with_a_length_block(h: bytes, data: bytes) -> None:
    out = ffi.new("uint8_t[16]")
    lib.qbb_fingerprint(out, h, data, len(data))
    padded = data + bytes(-len(data) % 16)
    assert bytes(out) == reference.polyval(h, padded + len(data).to_bytes(8, "big") + bytes(8))


@given(text=st.binary(max_size=400))
def test_every_kind_pads_and_fuses_like_the_reference(text: bytes) -> None:
    a, b = (bytes((i * step + 3) & 255 for i in range(len(text))) for step in (7, 11))
    out = ffi.new("uint8_t[]", len(text) + 1)
    before = lib.qbb_hash_selected()
    try:
        for each in KINDS:
            assert lib.qbb_hash_select(each) == 0
            out[len(text)] = 0xA5
            lib.qbb_pad(out, text, a, len(text))
            assert bytes(out) == reference.xor(text, a) + b"\xa5"
            lib.qbb_pad_fuse(out, text, a, b, len(text))
            assert bytes(out) == reference.xor(reference.xor(text, a), b) + b"\xa5"
    finally:
        lib.qbb_hash_select(before)


def test_a_sealed_packet_carries_the_references_tag(kind: int) -> None:
    """The whole path: a link seals a routing packet, and the tag is what the reference computes from the wire bytes."""
    from appliance.native.link import Channel, Command, Engine, LinkParams

    half = bytes(range(128))
    with Engine(LinkParams(link_id=0x0101010101010102, master=False)) as engine:
        engine.begin(9, half, bytes(128))
        engine.submit(Channel.ROUTING, Command.DATA, 6, True, b"five words of routing", 21)
        packet = engine.poll(1)
    assert packet is not None
    header, payload, tag = packet[:20], packet[20:-16], packet[-16:]
    fixed = reference.fixed_block(0x0101010101010102, 9, 1, 0, 0, header)
    mask = half[16:32]  # the first words behind H
    assert tag == reference.tag(half[:16], fixed, payload, mask)
