"""What a relay tells by ICMP, and what it takes from others."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from appliance.forwarding import reports
from appliance.native.forward import NetworkDrop
from appliance.network import icmp
from appliance.network import packet as network

SELF, SOURCE, FAR = IPv4Address("1.1.1.1"), IPv4Address("1.1.1.9"), IPv4Address("1.1.2.1")
DROPPED = network.pack(int(SOURCE), int(FAR), network.PROTOCOL_QKDTL, bytes(range(40)))

TOLD = {
    NetworkDrop.TTL: (icmp.IcmpType.TIME_EXCEEDED, icmp.TTL_EXCEEDED),
    NetworkDrop.NO_ROUTE: (icmp.IcmpType.DESTINATION_UNREACHABLE, icmp.Unreachable.NETWORK),
    NetworkDrop.NO_HOST: (icmp.IcmpType.DESTINATION_UNREACHABLE, icmp.Unreachable.PROTOCOL),
}


@pytest.mark.parametrize("reason", NetworkDrop, ids=lambda reason: reason.name)
def test_an_answer_names_the_reason_and_goes_to_the_source(reason: NetworkDrop) -> None:
    answer = reports.answer(SELF, reason, DROPPED)
    if reason not in TOLD:
        assert answer is None
        return
    assert answer is not None
    assert (answer[9], answer[12:16], answer[16:20]) == (network.PROTOCOL_ICMP, SELF.packed, SOURCE.packed)
    error = icmp.parse(answer[network.HEADER_BYTES :])
    assert (error.kind, error.code) == TOLD[reason]
    assert (error.source, error.destination, error.quoted) == (SOURCE, FAR, bytes(range(8)))


def test_nothing_is_told_about_icmp_or_less_than_a_header() -> None:
    about = reports.answer(SELF, NetworkDrop.TTL, DROPPED)
    assert about is not None
    assert reports.answer(SELF, NetworkDrop.TTL, about) is None
    assert reports.answer(SELF, NetworkDrop.TTL, DROPPED[:19]) is None


def test_errors_about_our_packets_are_counted_others_apart() -> None:
    received = reports.Received()
    about = reports.answer(SELF, NetworkDrop.TTL, DROPPED)
    assert about is not None
    error = received.take(SOURCE, about)
    assert error is not None and error.destination == FAR
    assert received.take(SELF, about) is None  # about a packet that we never sent
    assert received.take(SELF, about[:25]) is None
    assert received.counts == {"time-exceeded": 1, "icmp-foreign": 1, "icmp-short": 1}
