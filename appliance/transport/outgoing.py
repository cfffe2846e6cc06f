"""What an endpoint sends: a transport segment in its network packet."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.network import packet as network
from appliance.transport import packet
from appliance.transport.packet import Segment


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One QKDNL packet to send: its clear part, then the keys that the handles name, key_bytes in all."""

    clear: bytes
    handles: tuple[int, ...] = ()
    key_bytes: int = 0


def wrap(source: int, to: int, segment: Segment, handles: tuple[int, ...] = (), priority: int = 0) -> Outgoing:
    """Pack a segment for two addresses. Those with keys may be marked by queues, the others are not many."""
    clear = packet.pack(segment, source, to)
    key_bytes = segment.key_bytes
    service = network.tos(priority, network.Ecn.ECT0 if handles else network.Ecn.NOT_ECT)
    whole = network.pack(source, to, network.PROTOCOL_QKDTL, clear, key_bytes, type_of_service=service)
    return Outgoing(whole, handles, key_bytes)
