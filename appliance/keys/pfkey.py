"""PF_KEY version 2 (RFC 2367, sizes as <linux/pfkeyv2.h>): messages and extensions, written once in the table below.

Host byte order, except SPIs, addresses and ports in addresses. A message is struct sadb_msg (16 bytes) and extensions,
each padded to 8 bytes. Key bytes are not parsed out and not written in: a Key value says where in the message they
stand, so that C puts them there (service) or the application copies them from there (client).

Private extensions have numbers above those that a kernel knows, which a kernel skips:
KEY_ID       the key's 16-byte ID
REASON       why a request failed, as text; in errors for clients that sent an empty one with REGISTER
CONNECTION   a QKDTL connection: see Connection
NAME         an application's name in the network: its own in REGISTER, the wanted one's in ACQUIRE
Private satype TLS: keys for TLS external PSKs; the key ID is the PSK identity.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, htonl, ntohl
from typing import Any, NamedTuple, TypeAlias

VERSION = 2
HEADER = struct.Struct("=BBBBHHII")  # version type errno satype len reserved seq pid
MESSAGE_MAX_BYTES = 4096
WORD_BYTES = 8


class MessageType(IntEnum):
    GETSPI = 1
    UPDATE = 2
    ADD = 3
    DELETE = 4
    GET = 5
    ACQUIRE = 6
    REGISTER = 7
    EXPIRE = 8
    FLUSH = 9
    DUMP = 10


class SaType(IntEnum):
    UNSPEC = 0
    ESP = 3
    TLS = 240  # private


class Ext(IntEnum):
    SA = 1
    LIFETIME_CURRENT = 2
    LIFETIME_HARD = 3
    LIFETIME_SOFT = 4
    ADDRESS_SRC = 5
    ADDRESS_DST = 6
    KEY_AUTH = 8
    KEY_ENCRYPT = 9
    SUPPORTED_AUTH = 14
    SUPPORTED_ENCRYPT = 15
    SPIRANGE = 16
    SA2 = 19
    KEY_ID = 0xF001
    REASON = 0xF002
    CONNECTION = 0xF003
    NAME = 0xF004


class PfkeyError(Exception):
    """A message that breaks the format. `errno` goes into the answer; `reason` says where and what would be right."""

    def __init__(self, reason: str, number: int = errno.EINVAL) -> None:
        super().__init__(reason)
        self.errno = number
        self.reason = reason


class Sa(NamedTuple):
    spi: int
    replay: int = 0
    state: int = 1  # mature
    auth: int = 0
    encrypt: int = 0
    flags: int = 0


class Lifetime(NamedTuple):
    allocations: int = 0
    bytes: int = 0
    addtime: int = 0  # seconds from when it was added; in LIFETIME_CURRENT the time when it was added
    usetime: int = 0


class Address(NamedTuple):
    proto: int
    prefixlen: int
    reserved: int
    ip: IPv4Address | IPv6Address
    port: int = 0


class Key(NamedTuple):
    bits: int
    reserved: int = 0
    at: int = 0  # message offset of its first byte


class Algorithm(NamedTuple):
    id: int
    iv_bytes: int
    min_bits: int
    max_bits: int


class Supported(NamedTuple):
    reserved: int
    algorithms: tuple[Algorithm, ...]


class SpiRange(NamedTuple):
    min: int
    max: int
    reserved: int = 0


class Sa2(NamedTuple):
    mode: int = 0  # 0 any, 1 transport, 2 tunnel
    reserved1: int = 0
    reserved2: int = 0
    sequence: int = 0
    reqid: int = 0


class KeyId(NamedTuple):
    reserved: int
    key_id: bytes


class Reason(NamedTuple):
    reserved: int
    text: str


class Name(NamedTuple):
    reserved: int
    text: str


class Connection(NamedTuple):
    """A QKDTL connection, asked for (ACQUIRE) or named (id). Rates are lambda and sigma in key bits."""

    id: int
    node: int  # QBB node address of the far end
    local_port: int = 0
    remote_port: int = 0
    key_bytes: int = 0  # 0: as the connection was made, or what the algorithm takes
    prefetch: int = 0  # keys kept ready, at this end
    rate_bps: int = 0
    burst_bits: int = 0
    priority: int = 0  # in the queues of all nodes on the way


Value: TypeAlias = (
    Sa | Lifetime | Address | Key | Supported | SpiRange | Sa2 | KeyId | Reason | Connection | Name
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layout:
    """An extension: struct name in C, the value's class, fields behind len and type with their struct letters, those
    in network order, and how the variable tail is read and written."""

    c_name: str
    value: Callable[..., Any]
    fields: tuple[tuple[str, str], ...]
    network: tuple[int, ...] = ()
    tail: str = ""

    @property
    def format(self) -> struct.Struct:
        return struct.Struct("=HH" + "".join(letter for _, letter in self.fields))


_LIFETIME = Layout(
    "sadb_lifetime", Lifetime, (("allocations", "I"), ("bytes", "Q"), ("addtime", "Q"), ("usetime", "Q"))
)
_ADDRESS = Layout("sadb_address", Address, (("proto", "B"), ("prefixlen", "B"), ("reserved", "H")), tail="address")
_KEY = Layout("sadb_key", Key, (("bits", "H"), ("reserved", "H")), tail="key")
_SUPPORTED = Layout("sadb_supported", Supported, (("reserved", "I"),), tail="algorithms")

LAYOUTS: Mapping[int, Layout] = {
    Ext.SA: Layout(
        "sadb_sa",
        Sa,
        (("spi", "I"), ("replay", "B"), ("state", "B"), ("auth", "B"), ("encrypt", "B"), ("flags", "I")),
        network=(0,),
    ),
    Ext.LIFETIME_CURRENT: _LIFETIME,
    Ext.LIFETIME_HARD: _LIFETIME,
    Ext.LIFETIME_SOFT: _LIFETIME,
    Ext.ADDRESS_SRC: _ADDRESS,
    Ext.ADDRESS_DST: _ADDRESS,
    Ext.KEY_AUTH: _KEY,
    Ext.KEY_ENCRYPT: _KEY,
    Ext.SUPPORTED_AUTH: _SUPPORTED,
    Ext.SUPPORTED_ENCRYPT: _SUPPORTED,
    Ext.SPIRANGE: Layout("sadb_spirange", SpiRange, (("min", "I"), ("max", "I"), ("reserved", "I"))),
    Ext.SA2: Layout(
        "sadb_x_sa2",
        Sa2,
        (("mode", "B"), ("reserved1", "B"), ("reserved2", "H"), ("sequence", "I"), ("reqid", "I")),
    ),
    Ext.KEY_ID: Layout("qbb_key_id", KeyId, (("reserved", "I"), ("key_id", "16s"))),
    Ext.REASON: Layout("qbb_reason", Reason, (("reserved", "H"),), tail="text"),
    Ext.NAME: Layout("qbb_name", Name, (("reserved", "H"),), tail="text"),
    Ext.CONNECTION: Layout(
        "qbb_connection",
        Connection,
        (
            ("id", "I"),
            ("node", "I"),
            ("local_port", "H"),
            ("remote_port", "H"),
            ("key_bytes", "H"),
            ("prefetch", "H"),
            ("rate_bps", "I"),
            ("burst_bits", "I"),
            ("priority", "B"),
            ("reserved", "3x"),
        ),
        network=(1,),
    ),
}
_FORMATS = {number: layout.format for number, layout in LAYOUTS.items()}


@dataclass(slots=True)
class Message:
    type: int
    satype: int = SaType.UNSPEC
    seq: int = 0
    pid: int = 0
    errno: int = 0
    extensions: dict[int, Value] = field(default_factory=dict)

    def get(self, number: Ext) -> Any:
        """The extension's value, or None. (Each number has one class: LAYOUTS.)"""
        return self.extensions.get(number)


def padded(length_bytes: int) -> int:
    return (length_bytes + WORD_BYTES - 1) // WORD_BYTES * WORD_BYTES


def parse(data: bytes | bytearray | memoryview) -> Message:
    """A whole message. Raises PfkeyError and nothing else, whatever the bytes."""
    if len(data) < HEADER.size:
        raise PfkeyError(f"a message has at least {HEADER.size} bytes, not {len(data)}")
    version, kind, error, satype, words, reserved, seq, pid = HEADER.unpack_from(data)
    if version != VERSION:
        raise PfkeyError(f"version {version} is not spoken here, but {VERSION}")
    if words * WORD_BYTES != len(data):
        raise PfkeyError(f"the header says {words} words of 8 bytes, the message has {len(data)} bytes", errno.EMSGSIZE)
    if reserved:
        raise PfkeyError(f"sadb_msg_reserved is {reserved}, must be 0")
    message = Message(kind, satype, seq, pid, error)
    at = HEADER.size
    while at < len(data):
        at = _parse_extension(data, at, message.extensions)
    return message


def _parse_extension(data: bytes | bytearray | memoryview, at: int, found: dict[int, Value]) -> int:
    """Parses the extension at `at` and returns where the next one begins (the message ends on a word)."""
    words, number = struct.unpack_from("=HH", data, at)
    length: int = words * WORD_BYTES
    if length < WORD_BYTES or at + length > len(data):
        raise PfkeyError(f"extension {number} at byte {at} has {length} bytes, {len(data) - at} are left")
    if number == 0:
        raise PfkeyError(f"extension number 0 at byte {at} is reserved")
    layout = LAYOUTS.get(number)
    if layout is None:
        return at + length
    if number in found:
        raise PfkeyError(f"extension {Ext(number).name} comes twice, again at byte {at}")
    form = _FORMATS[number]
    if length < form.size or (not layout.tail and length != padded(form.size)):
        raise PfkeyError(f"extension {Ext(number).name} has {length} bytes, must have {padded(form.size)}")
    values = list(form.unpack_from(data, at)[2:])
    for index in layout.network:
        values[index] = ntohl(values[index])
    if layout.tail:
        values += _TAILS[layout.tail][0](data, at + form.size, at + length, values)
    found[number] = layout.value(*values)
    return at + length


def build(message: Message) -> bytes:
    """The message's bytes, zeros where keys go; `places` says where that is. Raises PfkeyError for a value that does
    not fit its field."""
    parts = [b""]
    try:
        parts += [_build_extension(number, value) for number, value in message.extensions.items()]
        words = (HEADER.size + sum(map(len, parts))) // WORD_BYTES
        parts[0] = HEADER.pack(VERSION, message.type, message.errno, message.satype, words, 0, message.seq, message.pid)
    except (struct.error, OverflowError) as error:
        raise PfkeyError(f"a value does not fit its field: {error}") from None
    return b"".join(parts)


def _build_extension(number: int, value: Value) -> bytes:
    layout, form = LAYOUTS[number], _FORMATS[number]
    tail = _TAILS[layout.tail][1](value) if layout.tail else b""
    values: list[Any] = list(value)[: sum(not letter.endswith("x") for _, letter in layout.fields)]
    for index in layout.network:
        values[index] = htonl(values[index])
    length = padded(form.size + len(tail))
    return (form.pack(length // WORD_BYTES, number, *values) + tail).ljust(length, b"\0")


def key_offsets(data: bytes) -> list[int]:
    """Where in a message that `build` made the bytes of its keys begin, in order."""
    found = parse(data).extensions.values()
    return sorted(value.at for value in found if isinstance(value, Key))


def _read_address(data: Any, at: int, end: int, values: list[Any]) -> list[Any]:
    if end - at < 2:
        raise PfkeyError("an address without a sockaddr")
    (family,) = struct.unpack_from("=H", data, at)
    size, offset, kind, bits = _FAMILIES.get(family, (0, 0, IPv4Address, 0))
    if size == 0 or end - at < size:
        raise PfkeyError(f"an address of family {family} in {end - at} bytes; AF_INET takes 16, AF_INET6 28")
    if values[1] > bits:
        raise PfkeyError(f"prefix length {values[1]} of an address of {bits} bits")
    (port,) = struct.unpack_from(">H", data, at + 2)
    return [kind(bytes(data[at + offset : at + offset + bits // 8])), port]


def _write_address(value: Any) -> bytes:
    if value.ip.version == 4:
        return struct.pack("=H", AF_INET) + struct.pack(">H", value.port) + bytes(value.ip.packed) + bytes(8)
    return struct.pack("=H", AF_INET6) + struct.pack(">HI", value.port, 0) + bytes(value.ip.packed) + bytes(4)


_FAMILIES: dict[int, tuple[int, int, Callable[[bytes], Any], int]] = {
    AF_INET: (16, 4, IPv4Address, 32),
    AF_INET6: (28, 8, IPv6Address, 128),
}


def _read_key(data: Any, at: int, end: int, values: list[Any]) -> list[Any]:
    if padded((values[0] + 7) // 8) != end - at or values[0] == 0:
        raise PfkeyError(f"a key of {values[0]} bits in {end - at} bytes")
    return [at]


def _read_algorithms(data: Any, at: int, end: int, values: list[Any]) -> list[Any]:
    rows = [struct.unpack_from("=BBHHH", data, place) for place in range(at, end, WORD_BYTES)]
    return [tuple(Algorithm(*row[:4]) for row in rows)]


def _read_text(data: Any, at: int, end: int, values: list[Any]) -> list[Any]:
    return [bytes(data[at:end]).rstrip(b"\0").decode("utf-8", "replace")]


_TAILS: Mapping[str, tuple[Callable[..., list[Any]], Callable[[Any], bytes]]] = {
    "address": (_read_address, _write_address),
    "key": (_read_key, lambda value: bytes(padded((value.bits + 7) // 8))),
    "algorithms": (
        _read_algorithms,
        lambda value: b"".join(struct.pack("=BBHHH", *algorithm, 0) for algorithm in value.algorithms),
    ),
    "text": (_read_text, lambda value: value.text.encode()),
}


def error(request: Message, number: int, reason: str | None = None) -> bytes:
    """The answer to a request that failed: a bare sadb_msg; with `reason` for clients that want the text."""
    extensions: dict[int, Value] = {} if reason is None else {Ext.REASON: Reason(0, reason)}
    return build(Message(request.type, request.satype, request.seq, request.pid, number, extensions))
