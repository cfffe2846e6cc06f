"""The QKDTL packet (paper Fig. 17, whose widths are lost; these are ours), big-endian.

    0               1               2               3
    | Source port                   | Destination port              |
    | Sequence: the segment's first key number                      |
    | Acknowledgement: all key numbers below it arrived             |
    | Flags         | Reserved (0)  | Window, keys                  |
    | Clear length                  | Checksum                      |

Sequence numbers count keys; SYN and FIN take one number each. Clear length counts from the header's start to
where padding begins. The checksum covers the pseudo-header (source, destination, protocol, length) and the
clear part, never key bytes. After the header:

    KEY:           | Count u16 | Key length u16 | count 16-byte key IDs |  end of clear; then count * length
    key bytes anything else: | Sender's tag u64 | Receiver's tag u64 | options: type u8, length u8, value ...
    |  all clear

A tag names one connection of one end's one life. A KEY segment has no room for tags: it is told from an old
one by its two sequence numbers, which begin at the low halves of the tags.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final
from uuid import UUID

from appliance.network.checksum import internet_checksum
from appliance.network.errors import RemoteProtocolError
from appliance.network.packet import HEADER_BYTES as NETWORK_HEADER_BYTES
from appliance.network.packet import MTU_BYTES, PROTOCOL_QKDTL
from appliance.transport.admission import Qos

HEADER_BYTES = 20
KEY_PREFIX_BYTES = 4
KEY_ID_BYTES = 16
TAGS_BYTES = 16
SEGMENT_BYTES = MTU_BYTES - NETWORK_HEADER_BYTES
KEY_ROOM_BYTES = SEGMENT_BYTES - HEADER_BYTES - KEY_PREFIX_BYTES  # for key IDs and keys
LONGEST_KEY_BYTES = KEY_ROOM_BYTES - KEY_ID_BYTES
MAX_SACK_RANGES = 30  # an option's length is one byte

_HEADER = struct.Struct("!HHIIBBHHH")
_PSEUDO = struct.Struct("!IIHH")
_KEY_PREFIX = struct.Struct("!HH")
_TAGS = struct.Struct("!QQ")
_QOS = struct.Struct("!IIIB")


class Flag(IntFlag):
    """The flags byte. One bit for each thing that a segment can be or carry."""

    SYN = 1  # takes one sequence number; the sender's tag is new
    ACK = 2  # acknowledgement and window are valid
    FIN = 4  # takes one sequence number; the sender has no more keys
    RST = 8  # the connection does not exist (any more)
    KEY = 16  # carries keys
    PROBE = 32  # answer at once, with an acknowledgement


# The only combinations there are. Hot paths compare plain integers: IntFlag arithmetic is slow.
SYN: Final = int(Flag.SYN)
SYN_ACK: Final = int(Flag.SYN | Flag.ACK)
ACK: Final = int(Flag.ACK)
KEY: Final = int(Flag.KEY | Flag.ACK)
FIN: Final = int(Flag.FIN | Flag.ACK)
PROBE: Final = int(Flag.PROBE | Flag.ACK)
RST: Final = int(Flag.RST)
SEGMENT_KINDS: Final = {
    SYN: "open",
    SYN_ACK: "accept",
    ACK: "acknowledge",
    KEY: "keys",
    FIN: "close",
    PROBE: "are you there",
    RST: "reset",
}


class Option(IntEnum):
    """Types of options in segments without keys. Unknown ones are skipped."""

    SACK = 1  # pairs of u32: first key number and the one after the last, lowest first
    MARKS = 2  # u32: how many congestion-marked segments arrived, modulo 2^32
    QOS = 3  # in SYN: rate u32 bit/s, burst u32 bits, guaranteed u32 bit/s, priority u8
    REFUSED = 4  # in RST: nobody listens, as opposed to no such connection


@dataclass(slots=True)
class Segment:
    """One segment. Sequence numbers as on the wire, 32 bits."""

    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int
    window: int = 0
    key_ids: tuple[UUID, ...] = ()
    key_length: int = 0
    sender_tag: int = 0
    receiver_tag: int = 0
    sack: tuple[tuple[int, int], ...] = ()
    marks: int | None = None
    qos: Qos | None = None
    refused: bool = False
    key_id_bytes: bytes = field(default=b"", repr=False)  # what pack() writes: key_ids as they go on the wire

    @property
    def key_bytes(self) -> int:
        return len(self.key_id_bytes) // KEY_ID_BYTES * self.key_length


def keys_per_segment(key_length: int) -> int:
    """How many keys of one length fit the network's MTU."""
    return KEY_ROOM_BYTES // (KEY_ID_BYTES + key_length)


def pack(segment: Segment, source: int, destination: int) -> bytes:
    """The segment's clear part, with its checksum for these two addresses."""
    if segment.flags & 16:
        count = len(segment.key_id_bytes) // KEY_ID_BYTES
        body = _KEY_PREFIX.pack(count, segment.key_length) + segment.key_id_bytes
    else:
        body = _TAGS.pack(segment.sender_tag, segment.receiver_tag) + _pack_options(segment)
    clear = HEADER_BYTES + len(body)
    head = (
        segment.source_port,
        segment.destination_port,
        segment.sequence & 0xFFFFFFFF,
        segment.acknowledgement & 0xFFFFFFFF,
        segment.flags,
        0,
        segment.window,
        clear,
    )
    pseudo = _PSEUDO.pack(source, destination, PROTOCOL_QKDTL, clear + segment.key_bytes)
    checksum = internet_checksum(pseudo + _HEADER.pack(*head, 0) + body)
    return _HEADER.pack(*head, checksum) + body


def parse(data: bytes, length_bytes: int, source: int, destination: int) -> Segment:
    """The segment whose clear part is `data` and whose whole length the network header gave as
    `length_bytes`.

    Raises RemoteProtocolError: segment-short, segment-clear, segment-checksum, segment-flags, segment-keys,
    segment-options, segment-port.
    """
    if len(data) < HEADER_BYTES + KEY_PREFIX_BYTES:
        raise RemoteProtocolError("segment-short", f"{len(data)} bytes")
    source_port, destination_port, sequence, acknowledgement, flags, _, window, clear, _ = _HEADER.unpack_from(data)
    if clear != len(data):
        raise RemoteProtocolError("segment-clear", f"says {clear}, {len(data)} are here")
    if internet_checksum(_PSEUDO.pack(source, destination, PROTOCOL_QKDTL, length_bytes) + data) != 0:
        raise RemoteProtocolError("segment-checksum")
    if flags not in SEGMENT_KINDS:
        raise RemoteProtocolError("segment-flags", f"{flags:#04x}")
    if source_port == 0 or destination_port == 0:
        raise RemoteProtocolError("segment-port")
    segment = Segment(source_port, destination_port, sequence, acknowledgement, flags, window)
    if flags == KEY:
        _parse_keys(segment, data, length_bytes)
    else:
        _parse_control(segment, data, length_bytes)
    return segment


def _parse_keys(segment: Segment, data: bytes, length_bytes: int) -> None:
    count, key_length = _KEY_PREFIX.unpack_from(data, HEADER_BYTES)
    begin = HEADER_BYTES + KEY_PREFIX_BYTES
    if not count or not key_length:
        raise RemoteProtocolError("segment-keys", f"{count} keys of {key_length} bytes")
    if len(data) != begin + count * KEY_ID_BYTES or length_bytes != len(data) + count * key_length:
        raise RemoteProtocolError("segment-keys", f"{count} keys of {key_length} bytes in {length_bytes}")
    segment.key_length = key_length
    segment.key_id_bytes = data[begin:]
    starts = range(begin, len(data), KEY_ID_BYTES)
    segment.key_ids = tuple([UUID(bytes=data[at : at + KEY_ID_BYTES]) for at in starts])


def _parse_control(segment: Segment, data: bytes, length_bytes: int) -> None:
    if length_bytes != len(data):
        raise RemoteProtocolError("segment-keys", "key bytes in a segment without keys")
    if len(data) < HEADER_BYTES + TAGS_BYTES:
        raise RemoteProtocolError("segment-short", f"{len(data)} bytes")
    segment.sender_tag, segment.receiver_tag = _TAGS.unpack_from(data, HEADER_BYTES)
    at = HEADER_BYTES + TAGS_BYTES
    while at < len(data):
        kind, value = data[at], data[at + 2 : at + 2 + data[at + 1]] if at + 1 < len(data) else b""
        if at + 1 >= len(data) or len(value) != data[at + 1]:
            raise RemoteProtocolError("segment-options", f"option {kind} is cut off")
        _parse_option(segment, kind, value)
        at += 2 + len(value)


def _parse_option(segment: Segment, kind: int, value: bytes) -> None:
    """Options of known types must be well-formed; unknown ones are skipped."""
    if kind == Option.SACK and len(value) % 8 == 0:
        numbers = struct.unpack(f"!{len(value) // 4}I", value)
        segment.sack = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    elif kind == Option.MARKS and len(value) == 4:
        segment.marks = int.from_bytes(value, "big")
    elif kind == Option.QOS and len(value) == _QOS.size and value[-1] <= 7:
        segment.qos = Qos(*_QOS.unpack(value))
    elif kind == Option.REFUSED and not value:
        segment.refused = True
    elif kind in (Option.SACK, Option.MARKS, Option.QOS, Option.REFUSED):
        raise RemoteProtocolError("segment-options", f"option {kind} of {len(value)} bytes")


def _pack_options(segment: Segment) -> bytes:
    options = b""
    if segment.sack:
        numbers = [number & 0xFFFFFFFF for pair in segment.sack for number in pair]
        options += _option(Option.SACK, struct.pack(f"!{len(numbers)}I", *numbers))
    if segment.marks is not None:
        options += _option(Option.MARKS, (segment.marks & 0xFFFFFFFF).to_bytes(4, "big"))
    if segment.qos is not None:
        qos = segment.qos
        options += _option(Option.QOS, _QOS.pack(qos.rate_bps, qos.burst_bits, qos.guaranteed_bps, qos.priority))
    if segment.refused:
        options += _option(Option.REFUSED, b"")
    return options


def _option(kind: Option, value: bytes) -> bytes:
    return bytes((kind, len(value))) + value
