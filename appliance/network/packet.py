"""The QKDNL packet (paper Fig. 13, Appendix D): the 20-byte header of IPv4 (RFC 791), big-endian.

    0               1               2               3
    |Version| IHL   | ToS: P P P 0 0 0 E E          | Packet length                 |
    | Identification (0)            | Flags (0), fragment offset (0)                |
    | TTL           | Protocol      | Header checksum                               |
    | Source address                                                                |
    | Destination address                                                           |

No options and no fragments: nothing in the network makes them, and the data plane forwards none
(csrc/core/qkd.c). ToS: three bits of precedence (our priority), and the two bits of explicit congestion
notification (RFC 3168). The payload may be shorter than the length says: of a key packet, Python sees the
clear part alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from appliance.network.checksum import internet_checksum
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

VERSION = 4
HEADER_BYTES = 20
MTU_BYTES = 1280  # network-wide; equals QBB_NETWORK_MTU
DEFAULT_TTL = 64  # ours; hops

PROTOCOL_ICMP = 1
PROTOCOL_OSPF = 89
PROTOCOL_QKDTL = 253  # RFC 3692: for experimentation

_HEADER = struct.Struct("!BBHHHBBHII")
_VERSION_IHL = VERSION << 4 | HEADER_BYTES // 4
_FRAGMENT_BITS = 0xBFFF  # all but don't-fragment


class Ecn(IntEnum):
    """The two low bits of ToS (RFC 3168). A queue changes ECT0 to CE instead of dropping."""

    NOT_ECT = 0
    ECT1 = 1
    ECT0 = 2
    CE = 3


@dataclass(frozen=True, slots=True)
class NetworkPacket:
    """One packet: header fields, and as much of the payload as is clear. length_bytes counts the whole
    packet.
    """

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload: bytes
    length_bytes: int
    ttl: int = DEFAULT_TTL
    tos: int = 0

    @property
    def priority(self) -> int:
        return self.tos >> 5

    @property
    def ecn(self) -> int:
        return self.tos & 3


def tos(priority: int, ecn: int) -> int:
    """The type-of-service byte for a priority 0..7 and an Ecn."""
    return priority << 5 | ecn


def pack(
    source: int,
    destination: int,
    protocol: int,
    payload: bytes,
    key_bytes: int = 0,
    ttl: int = DEFAULT_TTL,
    type_of_service: int = 0,
) -> bytes:
    """A packet's clear part; key_bytes more follow it. Addresses as integers, which is what is fast.

    Raises LocalProtocolError when the whole does not fit the MTU.
    """
    length = HEADER_BYTES + len(payload) + key_bytes
    if length > MTU_BYTES:
        raise LocalProtocolError(f"a packet of {length} bytes is longer than the MTU of {MTU_BYTES}")
    fields = (_VERSION_IHL, type_of_service, length, 0, 0, ttl, protocol)
    checksum = internet_checksum(_HEADER.pack(*fields, 0, source, destination))
    return _HEADER.pack(*fields, checksum, source, destination) + payload


def parse(data: bytes) -> NetworkPacket:
    """The packet in `data`, its clear part at least up to the end of the header.

    Raises RemoteProtocolError: network-short, network-version, network-header-length, network-checksum,
    network-length, network-fragment, network-ttl.
    """
    if len(data) < HEADER_BYTES:
        raise RemoteProtocolError("network-short", f"{len(data)} bytes")
    first, type_of_service, length, _, fragment, ttl, protocol, _, source, destination = _HEADER.unpack_from(data)
    if first >> 4 != VERSION:
        raise RemoteProtocolError("network-version", str(first >> 4))
    if first != _VERSION_IHL:
        raise RemoteProtocolError("network-header-length", str((first & 15) * 4))
    if internet_checksum(data[:HEADER_BYTES]) != 0:
        raise RemoteProtocolError("network-checksum")
    if not len(data) <= length <= MTU_BYTES:
        raise RemoteProtocolError("network-length", f"says {length}, {len(data)} are here")
    if fragment & _FRAGMENT_BITS:
        raise RemoteProtocolError("network-fragment")
    if ttl == 0:
        raise RemoteProtocolError("network-ttl")
    return NetworkPacket(
        IPv4Address(source),
        IPv4Address(destination),
        protocol,
        data[HEADER_BYTES:],
        length,
        ttl,
        type_of_service,
    )
