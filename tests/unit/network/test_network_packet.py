from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.network import packet
from appliance.network.checksum import checksum_holds, internet_checksum
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

ONE, TWO = IPv4Address("1.1.0.1"), IPv4Address("1.2.0.1")


def word_by_word(data: bytes) -> int:
    """RFC 1071 as it is written there."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(st.binary(max_size=100))
def test_checksum_is_rfc_1071(data: bytes) -> None:
    assert internet_checksum(data) == word_by_word(data)


def test_checksum_example_of_rfc_1071() -> None:
    assert internet_checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\xff\xff", b"\xff\xff\xff\xff", b"\0\1\xff\xfe"])
def test_checksum_of_both_zeros(data: bytes) -> None:
    assert internet_checksum(data) == word_by_word(data)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 255),
    st.binary(max_size=600),
    st.integers(0, 600),
    st.integers(1, 255),
    st.integers(0, 7),
    st.sampled_from(list(packet.Ecn)),
)
def test_round_trip(
    source: int, to: int, protocol: int, payload: bytes, key_bytes: int, ttl: int, priority: int, ecn: int
) -> None:
    data = packet.pack(source, to, protocol, payload, key_bytes, ttl, packet.tos(priority, ecn))
    back = packet.parse(data)
    assert (int(back.source), int(back.destination), back.protocol) == (source, to, protocol)
    assert (back.payload, back.length_bytes) == (payload, len(data) + key_bytes)
    assert (back.ttl, back.priority, back.ecn) == (ttl, priority, ecn)
    assert checksum_holds(data[:20])


@given(st.integers(0, 159))
def test_any_header_bit_turned_is_seen(bit: int) -> None:
    data = bytearray(packet.pack(int(ONE), int(TWO), packet.PROTOCOL_QKDTL, b"payload"))
    data[bit // 8] ^= 0x80 >> bit % 8
    with pytest.raises(RemoteProtocolError):
        packet.parse(bytes(data))


def changed(offset: int, value: bytes) -> bytes:
    data = bytearray(packet.pack(int(ONE), int(TWO), 253, b"payload"))
    data[offset : offset + len(value)] = value
    data[10:12] = b"\0\0"
    data[10:12] = internet_checksum(bytes(data[:20])).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"E" * 19, "network-short"),
        (changed(0, b"\x65"), "network-version"),
        (changed(0, b"\x44"), "network-header-length"),
        (changed(0, b"\x4f"), "network-header-length"),
        (changed(2, b"\x00\x14"), "network-length"),
        (changed(2, b"\x05\x01"), "network-length"),
        (changed(0, b"\x46"), "network-header-length"),
        (changed(6, b"\x20\x00"), "network-fragment"),
        (changed(6, b"\x80\x01"), "network-fragment"),
        (changed(8, b"\x00"), "network-ttl"),
    ],
)
def test_wrong_packets_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        packet.parse(data)
    assert caught.value.reason == reason


def test_nothing_longer_than_the_mtu_is_made() -> None:
    assert len(packet.pack(int(ONE), int(TWO), 253, b"x" * 1260)) == 1280
    with pytest.raises(LocalProtocolError):
        packet.pack(int(ONE), int(TWO), 253, b"x" * 1229, 32)
