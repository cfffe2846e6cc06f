"""The PF_KEY codec against <linux/pfkeyv2.h>, against itself, and against arbitrary bytes (corpus/ keeps messages of
each kind and broken ones)."""

from __future__ import annotations

import random
import struct
import subprocess
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import appliance.client
from appliance.keys import pfkey
from appliance.keys.pfkey import Ext, Message, MessageType, PfkeyError, SaType
from appliance.keys.requests import REQUESTS, check_request

CORPUS = Path(__file__).parent / "corpus"
C_CLIENT = Path(appliance.client.__file__).parent / "c"

ADDRESSES = st.one_of(
    st.builds(lambda ip, p: pfkey.Address(0, p, 0, ip), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, p: pfkey.Address(0, p, 0, ip), st.ip_addresses(v=6), st.integers(0, 128)),
)
U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
LIFETIMES = st.builds(pfkey.Lifetime, U32, U64, U64, U64)
ALGORITHMS = st.builds(pfkey.Supported, U32, st.lists(st.builds(pfkey.Algorithm, U8, U8, U16, U16)).map(tuple))
VALUES = {
    Ext.SA: st.builds(pfkey.Sa, U32, U8, U8, U8, U8, U32),
    Ext.LIFETIME_HARD: LIFETIMES,
    Ext.LIFETIME_SOFT: LIFETIMES,
    Ext.ADDRESS_SRC: ADDRESSES,
    Ext.ADDRESS_DST: ADDRESSES,
    Ext.SUPPORTED_ENCRYPT: ALGORITHMS,
    Ext.SPIRANGE: st.builds(pfkey.SpiRange, U32, U32, U32),
    Ext.SA2: st.builds(pfkey.Sa2, U8, U8, U16, U32, U32),
    Ext.KEY_ID: st.builds(pfkey.KeyId, U32, st.binary(min_size=16, max_size=16)),
    Ext.REASON: st.builds(pfkey.Reason, U16, st.text("abc äß", max_size=60)),
    Ext.NAME: st.builds(pfkey.Name, U16, st.text("abc äß", max_size=64)),
    Ext.CONNECTION: st.builds(pfkey.Connection, U32, U32, U16, U16, U16, U16, U32, U32, U8),
}
MESSAGES = st.builds(
    Message, U8, U8, U32, U32, U8, st.fixed_dictionaries({}, optional={int(n): value for n, value in VALUES.items()})
)


def layouts() -> list[tuple[str, list[tuple[str, str]]]]:
    found = {}
    for layout in pfkey.LAYOUTS.values():
        found[layout.c_name] = [("len", "H"), ("exttype", "H"), *layout.fields]
    return sorted(found.items())


def test_layouts_are_those_of_the_kernel_header(tmp_path: Path) -> None:
    lines, expected = [], []
    for name, fields in layouts():
        own = "".join(letter for _, letter in fields)
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        expected.append(f"{name} {struct.calcsize('=' + own)}")
        prefix = "sadb_sa" if name == "sadb_sa" else name
        at = 0
        for field, letter in fields:
            if not field.startswith("reserved") or name.startswith("qbb"):
                lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {prefix}_{field}));')
                expected.append(f"{name}.{field} {at}")
            at += struct.calcsize("=" + letter)
    lines.append('printf("sadb_msg %zu\\n", sizeof(struct sadb_msg));')
    expected.append(f"sadb_msg {pfkey.HEADER.size}")
    for kind in MessageType:
        lines.append(f'printf("{kind.name} %d\\n", SADB_{kind.name});')
        expected.append(f"{kind.name} {int(kind)}")
    for number in Ext:
        symbol = {"SA2": "SADB_X_EXT_SA2"}.get(number.name, f"SADB_EXT_{number.name}")
        symbol = f"SADB_X_EXT_QBB_{number.name}" if number >= 0xF000 else symbol
        lines.append(f'printf("{number.name} %d\\n", {symbol});')
        expected.append(f"{number.name} {int(number)}")
    source = tmp_path / "sizes.c"
    body = "\n".join(lines)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "qbb_client.h"\nint main(void) {{\n{body}\n}}\n'
    )
    subprocess.run(["gcc", "-Wall", "-Werror", "-I", C_CLIENT, "-o", tmp_path / "sizes", source], check=True)
    told = subprocess.run([tmp_path / "sizes"], check=True, capture_output=True, text=True).stdout.splitlines()
    assert told == expected


@given(MESSAGES)
def test_what_is_built_parses_back(message: Message) -> None:
    data = pfkey.build(message)
    assert len(data) % 8 == 0
    assert pfkey.parse(data) == message
    assert pfkey.build(pfkey.parse(data)) == data


def check_any_bytes(data: bytes) -> None:
    """The invariant of the fuzz loop: any bytes parse or raise PfkeyError, and what parses is well-formed."""
    try:
        message = pfkey.parse(data)
        check_request(message)
    except PfkeyError as error:
        assert error.errno and error.reason
        return
    for value in message.extensions.values():
        if isinstance(value, pfkey.Key):
            assert value.at + value.bits // 8 <= len(data)


@given(st.binary(max_size=300))
@example(b"")
@settings(max_examples=300)
def test_any_bytes(data: bytes) -> None:
    check_any_bytes(data)


@given(MESSAGES, st.data())
@settings(max_examples=200)
def test_changed_messages(message: Message, data: st.DataObject) -> None:
    changed = bytearray(pfkey.build(message))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    check_any_bytes(bytes(changed))


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.name)
def test_corpus(path: Path) -> None:
    """Each of these, and each one byte away from it at random places."""
    data = path.read_bytes()
    check_any_bytes(data)
    rng = random.Random(path.name)
    for _ in range(2000):
        changed = bytearray(data)
        changed[rng.randrange(len(changed))] = rng.randrange(256)
        check_any_bytes(bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.2 else changed))


GOOD = pfkey.build(
    Message(
        MessageType.GETSPI, SaType.ESP, 1, 2, 0, {Ext.CONNECTION: pfkey.Connection(3, 0x01010101), Ext.SA: pfkey.Sa(1)}
    )
)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "at least 16"),
        (GOOD[:15], "at least 16"),
        (b"\1" + GOOD[1:], "version 1"),
        (GOOD[:-8], "words of 8"),
        (GOOD + bytes(8), "words of 8"),
        (GOOD[:4] + struct.pack("=HH", len(GOOD) // 8, 9) + GOOD[8:], "reserved"),
        (GOOD[:16] + b"\0\0" + GOOD[18:], "0 bytes"),
        (GOOD[:16] + b"\xff\0" + GOOD[18:], "are left"),
        (GOOD[:18] + b"\0\0" + GOOD[20:], "number 0"),
        (GOOD[:18] + struct.pack("=H", Ext.SA) + GOOD[20:], "SA has 32 bytes, must have 16"),
    ],
)
def test_errors_name_the_place(data: bytes, words: str) -> None:
    with pytest.raises(PfkeyError, match=words):
        pfkey.parse(data)


def test_an_extension_twice_is_refused() -> None:
    extra = GOOD[48:]
    data = GOOD[:4] + struct.pack("=H", (len(GOOD) + len(extra)) // 8) + GOOD[6:] + extra
    with pytest.raises(PfkeyError, match="SA comes twice"):
        pfkey.parse(data)


@pytest.mark.parametrize("kind", sorted(REQUESTS))
def test_missing_extensions_are_named(kind: int) -> None:
    needed = REQUESTS[kind][0]
    if needed:
        with pytest.raises(PfkeyError, match=Ext(min(needed)).name):
            check_request(Message(kind, SaType.TLS))
    else:
        check_request(Message(kind, SaType.TLS))


def test_spi_and_addresses_stand_in_network_order() -> None:
    data = pfkey.build(Message(MessageType.ADD, SaType.ESP, extensions={Ext.SA: pfkey.Sa(0xC0000001)}))
    assert data[20:24] == b"\xc0\0\0\1"
    v4 = pfkey.Address(0, 32, 0, IPv4Address("192.0.2.1"), 500)
    data = pfkey.build(Message(MessageType.ADD, SaType.ESP, extensions={Ext.ADDRESS_SRC: v4}))
    assert data[24:32] == b"\2\0\x01\xf4\xc0\0\2\1" and len(data) == 40
    v6 = pfkey.Address(0, 128, 0, IPv6Address("2001:db8::1"))
    data = pfkey.build(Message(MessageType.ADD, SaType.ESP, extensions={Ext.ADDRESS_SRC: v6}))
    assert len(data) == 16 + 40 and data[32:48] == IPv6Address("2001:db8::1").packed


def test_keys_are_places_not_bytes() -> None:
    keys: dict[int, pfkey.Value] = {Ext.KEY_ENCRYPT: pfkey.Key(288), Ext.KEY_AUTH: pfkey.Key(256)}
    data = pfkey.build(Message(MessageType.ADD, SaType.ESP, extensions=keys))
    first, second = pfkey.key_offsets(data)
    assert (first, second) == (24, 24 + 40 + 8) and not any(data[first : first + 40]) and len(data) == second + 32


def test_values_that_do_not_fit() -> None:
    with pytest.raises(PfkeyError, match="does not fit"):
        pfkey.build(Message(MessageType.ADD, extensions={Ext.SA: pfkey.Sa(2**32)}))


def test_error_answers_are_bare() -> None:
    request = Message(MessageType.GETSPI, SaType.TLS, 77, 88)
    data = pfkey.error(request, 13)
    assert len(data) == 16 and pfkey.parse(data) == Message(MessageType.GETSPI, SaType.TLS, 77, 88, 13)
    assert pfkey.parse(pfkey.error(request, 13, "warum nicht: ä")).get(Ext.REASON).text == "warum nicht: ä"
