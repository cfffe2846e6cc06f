from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.network import icmp, packet
from appliance.network.checksum import internet_checksum
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

ONE, TWO, RELAY = IPv4Address("1.1.0.1"), IPv4Address("1.2.0.1"), IPv4Address("1.1.0.9")
DROPPED = packet.pack(int(ONE), int(TWO), packet.PROTOCOL_QKDTL, b"12345678rest", key_bytes=32)


@pytest.mark.parametrize(
    ("report", "kind", "code"),
    [
        (icmp.time_exceeded(RELAY, DROPPED), icmp.IcmpType.TIME_EXCEEDED, 0),
        (icmp.destination_unreachable(RELAY, DROPPED, icmp.Unreachable.PROTOCOL), 3, 2),
        (icmp.destination_unreachable(RELAY, DROPPED, icmp.Unreachable.HOST), 3, 1),
    ],
)
def test_an_error_reaches_the_source_and_names_the_packet(report: bytes, kind: int, code: int) -> None:
    outer = packet.parse(report)
    assert (outer.source, outer.destination, outer.protocol) == (RELAY, ONE, packet.PROTOCOL_ICMP)
    error = icmp.parse(outer.payload)
    assert (error.kind, error.code) == (kind, code)
    assert (error.source, error.destination, error.protocol) == (ONE, TWO, packet.PROTOCOL_QKDTL)
    assert error.quoted == b"12345678"


def test_no_error_about_an_error() -> None:
    report = icmp.time_exceeded(RELAY, DROPPED)
    assert not icmp.may_report(report)
    assert not icmp.may_report(b"E")
    with pytest.raises(LocalProtocolError):
        icmp.time_exceeded(RELAY, report)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_parse_or_raise(data: bytes, mend: bool) -> None:
    if mend and len(data) > 3:
        data = b"\x03\x01\0\0" + data[4:]
        data = data[:2] + internet_checksum(data).to_bytes(2, "big") + data[4:]
    try:
        error = icmp.parse(data)
    except RemoteProtocolError:
        return
    assert len(error.quoted) == icmp.QUOTED_BYTES


@given(st.integers(0, (8 + 28) * 8 - 1))
def test_any_bit_turned_is_seen(bit: int) -> None:
    payload = bytearray(packet.parse(icmp.time_exceeded(RELAY, DROPPED)).payload)
    payload[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError):
        icmp.parse(bytes(payload))
