"""ICMP for QKDNL (RFC 792; paper Appendix D): why a packet was dropped, told to its source.

    | Type          | Code          | Checksum                      |
    | Unused (0)                                                    |
    | the dropped packet's header, and the first 8 bytes after it   |

TTL run out -> Time Exceeded; no such host, or nobody for the protocol -> Destination Unreachable. A bad
header checksum is dropped silently, for nothing in such a packet can be believed, its source least. The 8
bytes quoted are the start of a transport header: ports and sequence number, always clear, never key bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

from appliance.network import packet as network
from appliance.network.checksum import checksum_holds, internet_checksum
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

QUOTED_BYTES = 8
_HEADER = struct.Struct("!BBHI")


class IcmpType(IntEnum):
    DESTINATION_UNREACHABLE = 3
    TIME_EXCEEDED = 11


class Unreachable(IntEnum):
    """Codes of Destination Unreachable."""

    NETWORK = 0
    HOST = 1
    PROTOCOL = 2  # the paper's code for a host address that is not on the local network


TTL_EXCEEDED = 0  # Time Exceeded's code: in transit


@dataclass(frozen=True, slots=True)
class IcmpError:
    """A parsed error: which packet it is about, and the first 8 bytes of what that packet carried."""

    kind: IcmpType
    code: int
    source: IPv4Address
    destination: IPv4Address
    protocol: int
    quoted: bytes


def time_exceeded(reporter: IPv4Address, dropped: bytes) -> bytes:
    """The QKDNL packet that tells the source of `dropped` (at least its clear part) that its TTL ran out."""
    return _error(IcmpType.TIME_EXCEEDED, TTL_EXCEEDED, reporter, dropped)


def destination_unreachable(reporter: IPv4Address, dropped: bytes, code: Unreachable) -> bytes:
    """The QKDNL packet that tells the source of `dropped` that it could not be delivered."""
    return _error(IcmpType.DESTINATION_UNREACHABLE, code, reporter, dropped)


def may_report(dropped: bytes) -> bool:
    """Whether an error may be sent about a packet: never about an ICMP packet (RFC 1122 3.2.2)."""
    return len(dropped) >= network.HEADER_BYTES and dropped[9] != network.PROTOCOL_ICMP


def parse(payload: bytes) -> IcmpError:
    """The error in an ICMP packet's payload.

    Raises RemoteProtocolError: icmp-short, icmp-checksum, icmp-type, icmp-quote.
    """
    if len(payload) < _HEADER.size + network.HEADER_BYTES + QUOTED_BYTES:
        raise RemoteProtocolError("icmp-short", f"{len(payload)} bytes")
    if not checksum_holds(payload):
        raise RemoteProtocolError("icmp-checksum")
    kind, code, _, _ = _HEADER.unpack_from(payload)
    if kind not in (IcmpType.DESTINATION_UNREACHABLE, IcmpType.TIME_EXCEEDED):
        raise RemoteProtocolError("icmp-type", str(kind))
    quote = payload[_HEADER.size :]
    header_bytes = (quote[0] & 15) * 4
    if quote[0] >> 4 != network.VERSION or not network.HEADER_BYTES <= header_bytes <= len(quote) - QUOTED_BYTES:
        raise RemoteProtocolError("icmp-quote")
    source, destination = IPv4Address(quote[12:16]), IPv4Address(quote[16:20])
    quoted = quote[header_bytes : header_bytes + QUOTED_BYTES]
    return IcmpError(IcmpType(kind), code, source, destination, quote[9], quoted)


def _error(kind: IcmpType, code: int, reporter: IPv4Address, dropped: bytes) -> bytes:
    if not may_report(dropped):
        raise LocalProtocolError("no ICMP error is sent about an ICMP error or less than a header")
    end = (dropped[0] & 15) * 4 + QUOTED_BYTES
    quote = dropped[:end].ljust(end, b"\0")
    checksum = internet_checksum(_HEADER.pack(kind, code, 0, 0) + quote)
    body = _HEADER.pack(kind, code, checksum, 0) + quote
    to = int.from_bytes(dropped[12:16], "big")
    return network.pack(int(reporter), to, network.PROTOCOL_ICMP, body)
