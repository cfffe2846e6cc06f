"""What may pass the TUN of a link: OSPF between the two ends of that link (RFC 2328 appendix A.1), nothing else.

A TUN is a network interface: without this gate a neighbour would reach what listens in the node's namespace, as
ospfd's API does, and OSPF packets with foreign addresses would be believed, or routed on by the kernel. Packets are
checked whichever way they go. Fragments of OSPF packets pass: a router LSA of many links is longer than the MTU.
"""

from __future__ import annotations

from appliance.network.packet import HEADER_BYTES, MTU_BYTES, PROTOCOL_OSPF

ALL_SPF_ROUTERS = bytes((224, 0, 0, 5))


def why_not(packet: bytes, source: bytes, destination: bytes) -> str | None:
    """Why a packet from `source` to `destination` (4 bytes each, the ends of the link) may not pass; None when it may.

    A fixed slug, fit to be a counter's name.
    """
    if not HEADER_BYTES <= len(packet) <= MTU_BYTES:
        return "length"
    header_bytes = (packet[0] & 15) * 4
    if packet[0] >> 4 != 4 or not HEADER_BYTES <= header_bytes <= len(packet):
        return "version"
    if int.from_bytes(packet[2:4], "big") != len(packet):
        return "length"
    if packet[9] != PROTOCOL_OSPF:
        return "protocol"
    if packet[12:16] != source:
        return "source"
    if packet[16:20] not in (ALL_SPF_ROUTERS, destination):
        return "destination"
    return None
