"""One link-state advertisement (RFC 2328 A.4), big-endian. Addresses and router ids are integers.

    | LS age        | Options | LS type | Link state ID | Advertising router | Sequence | Checksum | Length |

then by type:

    1 router      flags (V E B) u8, 0 u8, links u16; each: ID u32, data u32, type u8, ToS count u8, metric u16
    2 network     mask u32, attached routers u32 ...
    3, 4 summary  mask u32, 0 u8, metric u24
    11 opaque     bytes; the link state ID is type u8 and id u24 (RFC 5250)

The checksum is ospfd's affair: it gives out only what it has verified.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from appliance.network.errors import RemoteProtocolError

HEADER_BYTES = 20
MAX_AGE_S = 3600
INFINITY = 0xFFFFFF  # LSInfinity, of summaries
MAX_LINK_METRIC = 0xFFFF  # MaxLinkMetric of RFC 6987: not for transit
FULL_MASK = 0xFFFFFFFF
HOST_BITS = 32  # a prefix that is one node

BORDER, EXTERNAL = 1, 2  # flags of a router LSA

_HEADER = struct.Struct("!HBBIIIHH")
_ROUTER = struct.Struct("!BBH")
_LINK = struct.Struct("!IIBBH")
TOS_BYTES = 4


class LsaType(IntEnum):
    ROUTER = 1
    NETWORK = 2
    SUMMARY = 3
    BORDER_SUMMARY = 4  # of an AS boundary router: a node with registrations
    OPAQUE_AS = 11


class LinkKind(IntEnum):
    POINT_TO_POINT = 1
    TRANSIT = 2
    STUB = 3
    VIRTUAL = 4


@dataclass(frozen=True, slots=True)
class Header:
    age_s: int
    options: int
    type: int
    id: int
    router: int  # the advertising router
    sequence: int
    checksum: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class RouterLink:
    """kind 1: id = neighbour's router id, data = own interface address. 3: id = network, data = mask."""

    kind: int
    id: int
    data: int
    metric: int


@dataclass(frozen=True, slots=True)
class RouterBody:
    flags: int
    links: tuple[RouterLink, ...]

    @property
    def border(self) -> bool:
        return bool(self.flags & BORDER)

    @property
    def transit(self) -> bool:
        """False for a QAN: it has links to others, and every one of them costs the maximum (RFC 6987)."""
        outgoing = [link.metric for link in self.links if link.kind != LinkKind.STUB]
        return not outgoing or any(metric != MAX_LINK_METRIC for metric in outgoing)


@dataclass(frozen=True, slots=True)
class NetworkBody:
    bits: int
    routers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SummaryBody:
    bits: int
    metric: int


@dataclass(frozen=True, slots=True)
class OpaqueBody:
    kind: int
    id: int
    data: bytes


Body = RouterBody | NetworkBody | SummaryBody | OpaqueBody


@dataclass(frozen=True, slots=True)
class Lsa:
    """`body` is None for types that nothing here needs."""

    header: Header
    body: Body | None


def mask_bits(mask: int) -> int:
    """Raises RemoteProtocolError (lsa-mask) for a mask with holes."""
    bits = mask.bit_count()
    if mask != mask_of(bits):
        raise RemoteProtocolError("lsa-mask", f"{mask:#010x}")
    return bits


def mask_of(bits: int) -> int:
    return (FULL_MASK << (32 - bits)) & FULL_MASK


def pack_header(kind: int, lsa_id: int, router: int, body: bytes) -> bytes:
    """The header of an LSA to originate: ospfd fills in age, sequence and checksum."""
    return _HEADER.pack(0, 0, kind, lsa_id, router, 0, 0, HEADER_BYTES + len(body))


def parse_header(data: bytes) -> Header:
    """Raises RemoteProtocolError: lsa-short."""
    if len(data) < HEADER_BYTES:
        raise RemoteProtocolError("lsa-short", f"{len(data)} bytes")
    return Header(*_HEADER.unpack_from(data))


def parse(data: bytes) -> Lsa:
    """One LSA, whole. Raises RemoteProtocolError: lsa-short, lsa-length, lsa-mask, lsa-links."""
    header = parse_header(data)
    if header.length_bytes != len(data):
        raise RemoteProtocolError("lsa-length", f"says {header.length_bytes}, {len(data)} are here")
    return Lsa(header, _body(header, data[HEADER_BYTES:]))


def _body(header: Header, body: bytes) -> Body | None:
    if header.type == LsaType.ROUTER:
        return _router(body)
    if header.type == LsaType.NETWORK:
        if len(body) < 8 or len(body) % 4:
            raise RemoteProtocolError("lsa-length", f"a network LSA of {len(body)} bytes")
        mask, *routers = struct.unpack(f"!{len(body) // 4}I", body)
        return NetworkBody(mask_bits(mask), tuple(routers))
    if header.type in (LsaType.SUMMARY, LsaType.BORDER_SUMMARY):
        if len(body) < 8:
            raise RemoteProtocolError("lsa-length", f"a summary LSA of {len(body)} bytes")
        mask, metric = struct.unpack_from("!II", body)
        bits = mask_bits(mask) if header.type == LsaType.SUMMARY else HOST_BITS
        return SummaryBody(bits, metric & INFINITY)
    if header.type == LsaType.OPAQUE_AS:
        return OpaqueBody(header.id >> 24, header.id & 0xFFFFFF, body)
    return None


def _router(body: bytes) -> RouterBody:
    if len(body) < _ROUTER.size:
        raise RemoteProtocolError("lsa-length", f"a router LSA of {len(body)} bytes")
    flags, _, count = _ROUTER.unpack_from(body)
    links, at = [], _ROUTER.size
    for _ in range(count):
        if at + _LINK.size > len(body):
            raise RemoteProtocolError("lsa-links", f"{count} links in {len(body)} bytes")
        link_id, data, kind, tos_count, metric = _LINK.unpack_from(body, at)
        if kind == LinkKind.STUB:
            mask_bits(data)
        links.append(RouterLink(kind, link_id, data, metric))
        at += _LINK.size + TOS_BYTES * tos_count
    if at != len(body):
        raise RemoteProtocolError("lsa-links", f"{len(body) - at} bytes behind {count} links")
    return RouterBody(flags, tuple(links))
