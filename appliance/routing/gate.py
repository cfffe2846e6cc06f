"""What may pass the TUN of a link: OSPF between the two ends of that link (RFC 2328 appendix A.1), nothing else.

A TUN is a network interface: without this gate a neighbour would reach what listens in the node's namespace, as
ospfd's API does, and OSPF packets with foreign addresses would be believed, or routed on by the kernel. Packets are
checked whichever way they go. Fragments of OSPF packets pass: a router LSA of many links is longer than the MTU.
"""

from __future__ import annotations

from appliance.network.checksum import checksum_holds
from appliance.network.packet import HEADER_BYTES, MTU_BYTES, PROTOCOL_OSPF, VERSION

ALL_SPF_ROUTERS = bytes((224, 0, 0, 5))


def malformed(packet: bytes) -> str | None:
    """Why this is no OSPF packet in IPv4; None when it is. A fixed slug, fit to be a counter's name."""
    if not HEADER_BYTES <= len(packet) <= MTU_BYTES:
        return "length"
    if packet[0] >> 4 != VERSION:
        return "version"
    if packet[0] & 15 != HEADER_BYTES // 4:
        return "options"
    if int.from_bytes(packet[2:4], "big") != len(packet):
        return "length"
    if not checksum_holds(packet[:HEADER_BYTES]):
        return "checksum"
    return "protocol" if packet[9] != PROTOCOL_OSPF else None


def why_not(packet: bytes, source: bytes, destination: bytes) -> str | None:
    """Why a packet may not pass from `source` to `destination`, the ends of the link as 4 bytes; None when it may."""
    if (wrong := malformed(packet)) is not None:
        return wrong
    if packet[12:16] != source:
        return "source"
    return "destination" if packet[16:20] not in (ALL_SPF_ROUTERS, destination) else None
