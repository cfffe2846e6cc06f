"""ICMP at a relay: what is told to the source of a dropped packet, and what others tell this node.

The C thread leaves the clear part of dropped packets, so many a second and never of an ICMP packet (forward.c).
Errors about packets of this node's own connections are counted here; they go to QKDTL as well, by the ring.
"""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address

from appliance.native.forward import NetworkDrop
from appliance.network import icmp
from appliance.network import packet as network
from appliance.network.errors import RemoteProtocolError


def answer(reporter: IPv4Address, reason: NetworkDrop, dropped: bytes) -> bytes | None:
    """The packet to send about ``dropped`` (its clear part); None where nothing is told."""
    if not icmp.may_report(dropped):
        return None
    if reason is NetworkDrop.TTL:
        return icmp.time_exceeded(reporter, dropped)
    if reason is NetworkDrop.NO_ROUTE:
        return icmp.destination_unreachable(reporter, dropped, icmp.Unreachable.NETWORK)
    if reason is NetworkDrop.NO_HOST:
        return icmp.destination_unreachable(reporter, dropped, icmp.Unreachable.PROTOCOL)
    return None


class Received:
    """Counts what comes in by ICMP, by kind."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def take(self, address: IPv4Address, packet: bytes) -> icmp.IcmpError | None:
        """An ICMP packet for this node; the error, if it is one about a packet that this node sent."""
        try:
            error = icmp.parse(packet[network.HEADER_BYTES :])
        except RemoteProtocolError as wrong:
            self.counts[wrong.reason] += 1
            return None
        if error.source != address:
            self.counts["icmp-foreign"] += 1
            return None
        self.counts[error.kind.name.lower().replace("_", "-")] += 1
        return error
