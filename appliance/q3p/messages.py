"""Messages of the link machine: the hello (unsealed, under HMAC) and control messages (sealed, channel 0).

A hello is a Q3P packet with A = 0: header, ``kind u8 | body``, then HMAC-SHA-256 (32) over a label, the link, the
sender's role and everything before it. A control message is the payload of a sealed packet: ``kind u8 | body``; what is
secret in it (fingerprints) is padded and stays in the data plane.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from appliance.q3p.records import (
    DIGEST_BYTES,
    MAX_RECORD_BYTES,
    BlockEntry,
    BlockName,
    RecordError,
    SessionId,
    pack_entries,
    unpack_entries,
)

NONCE_BYTES = 16
MAC_BYTES = 32
HEADER = struct.Struct(">HHIBBHII")
VERSION = 3
HELLO_LABEL = b"QBB Q3P hello"
MAX_MESSAGE_BYTES = 1300
MAX_MISSING = 50
MAX_PICKUP = 60
_NAME = struct.Struct(">HQ")


class MessageError(Exception):
    """A message from the peer that breaks the protocol."""


Mac = Callable[[bytes], bytes]


def _take(data: bytes, size: int, what: str) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise MessageError(f"{what}: {len(data)} bytes where {size} are due")
    return data[:size], data[size:]


def _pack_missing(missing: tuple[int, ...]) -> bytes:
    return struct.pack(f">{len(missing)}Q", *missing)


def _unpack_missing(data: bytes) -> tuple[int, ...]:
    if len(data) % 8 or len(data) > 8 * MAX_MISSING:
        raise MessageError(f"list of missing chunks of {len(data)} bytes")
    return struct.unpack(f">{len(data) // 8}Q", data)


def _pack_records(records: tuple[bytes, ...]) -> bytes:
    return b"".join(struct.pack(">H", len(record)) + record for record in records)


def _unpack_records(data: bytes) -> tuple[bytes, ...]:
    records = []
    while data:
        length, data = _take(data, 2, "record length")
        record, data = _take(data, int.from_bytes(length, "big"), "record")
        records.append(record)
    if not records:
        raise MessageError("no record in a message of records")
    return tuple(records)


def fitting(records: list[bytes]) -> tuple[bytes, ...]:
    """As many of the first records as one message carries; at least one."""
    taken: list[bytes] = []
    size = 0
    for record in records:
        size += 2 + len(record)
        if taken and size > MAX_RECORD_BYTES:
            break
        taken.append(record)
    return tuple(taken)


# --- hello ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Init:
    """Asks for a session (rule 2)."""

    kind: ClassVar[int] = 1
    nonce: bytes

    def body(self) -> bytes:
        return self.nonce

    @classmethod
    def parse(cls, data: bytes) -> Init:
        if len(data) != NONCE_BYTES:
            raise MessageError("INIT of wrong length")
        return cls(data)


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answers INIT with the responder's outstanding challenge."""

    kind: ClassVar[int] = 2
    session: SessionId

    def body(self) -> bytes:
        return b"".join(self.session)

    @classmethod
    def parse(cls, data: bytes) -> Challenge:
        return cls(_session(data, "CHALLENGE"))


@dataclass(frozen=True, slots=True)
class Response:
    """Proves that the initiator is there now: the challenge comes back."""

    kind: ClassVar[int] = 3
    session: SessionId

    def body(self) -> bytes:
        return b"".join(self.session)

    @classmethod
    def parse(cls, data: bytes) -> Response:
        return cls(_session(data, "RESPONSE"))


def _session(data: bytes, what: str) -> SessionId:
    if len(data) != 2 * NONCE_BYTES:
        raise MessageError(f"{what} of wrong length")
    return SessionId(data[:NONCE_BYTES], data[NONCE_BYTES:])


@dataclass(frozen=True, slots=True)
class LogStateMessage:
    """How far the sender's log reaches in this session, which live chunks' bytes it lacks, and the newest blocks of its
    pickup store (so that the slave offers what the master has). Also acknowledges."""

    kind: ClassVar[int] = 4
    session: SessionId
    length: int
    digest: bytes
    reply_wanted: bool
    missing: tuple[int, ...]
    pickup: tuple[BlockName, ...] = ()

    def body(self) -> bytes:
        head = b"".join(self.session) + struct.pack(">Q", self.length) + self.digest
        missing = _pack_missing(self.missing)
        names = b"".join(_NAME.pack(*name) for name in self.pickup)
        return head + struct.pack(">BH", self.reply_wanted, len(missing)) + missing + names

    @classmethod
    def parse(cls, data: bytes) -> LogStateMessage:
        session, data = _take(data, 2 * NONCE_BYTES, "session")
        length, data = _take(data, 8, "log length")
        digest, data = _take(data, DIGEST_BYTES, "digest")
        head, data = _take(data, 3, "flags")
        if head[0] > 1:
            raise MessageError("LOGSTATE with unknown flags")
        missing, data = _take(data, int.from_bytes(head[1:], "big"), "missing chunks")
        if len(data) % _NAME.size:
            raise MessageError(f"list of blocks of {len(data)} bytes")
        pickup = tuple(BlockName(*name) for name in _NAME.iter_unpack(data))
        number = int.from_bytes(length, "big")
        return cls(_session(session, "LOGSTATE"), number, digest, bool(head[0]), _unpack_missing(missing), pickup)


@dataclass(frozen=True, slots=True)
class HelloRecords:
    """Records from index ``first`` on, and the chain digest after the last of them."""

    kind: ClassVar[int] = 5
    session: SessionId
    first: int
    digest: bytes
    records: tuple[bytes, ...]

    def body(self) -> bytes:
        return b"".join(self.session) + struct.pack(">Q", self.first) + self.digest + _pack_records(self.records)

    @classmethod
    def parse(cls, data: bytes) -> HelloRecords:
        session, data = _take(data, 2 * NONCE_BYTES, "session")
        first, data = _take(data, 8, "index")
        digest, data = _take(data, DIGEST_BYTES, "digest")
        return cls(_session(session, "RECORDS"), int.from_bytes(first, "big"), digest, _unpack_records(data))


Hello = Init | Challenge | Response | LogStateMessage | HelloRecords
_HELLOS: dict[int, type[Hello]] = {cls.kind: cls for cls in (Init, Challenge, Response, LogStateMessage, HelloRecords)}


def _mac_input(link_id: int, from_master: bool, packet: bytes) -> bytes:
    return HELLO_LABEL + struct.pack(">Q?", link_id, from_master) + packet


def seal_hello(message: Hello, link_id: int, from_master: bool, mac: Mac) -> bytes:
    """The hello as a packet for the wire."""
    payload = bytes([message.kind]) + message.body()
    length = HEADER.size + len(payload) + MAC_BYTES
    packet = HEADER.pack(length, len(payload), 0, VERSION, 0, 0, 0, 0) + payload
    return packet + mac(_mac_input(link_id, from_master, packet))


def open_hello(packet: bytes, link_id: int, from_master: bool, mac: Mac) -> Hello:
    """Authenticate, then parse. ``from_master``: the peer's role. Raises MessageError."""
    if len(packet) < HEADER.size + 1 + MAC_BYTES:
        raise MessageError("hello too short")
    content, tag = packet[:-MAC_BYTES], packet[-MAC_BYTES:]
    if not hmac.compare_digest(mac(_mac_input(link_id, from_master, content)), tag):
        raise MessageError("hello with a wrong HMAC: are link secret, hash, chunk_bytes and window_bytes equal?")
    payload = content[HEADER.size :]
    expected = HEADER.pack(len(packet), len(payload), 0, VERSION, 0, 0, 0, 0)
    if content[: HEADER.size] != expected:
        raise MessageError("hello with a wrong header")
    cls = _HELLOS.get(payload[0])
    if cls is None:
        raise MessageError(f"unknown hello {payload[0]}")
    return cls.parse(payload[1:])


# --- control, sealed -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Confirm:
    """First sealed packet of an epoch: both ends mean the same session and the same log."""

    kind: ClassVar[int] = 1
    session: SessionId
    length: int
    digest: bytes

    def body(self) -> bytes:
        return b"".join(self.session) + struct.pack(">Q", self.length) + self.digest

    @classmethod
    def parse(cls, data: bytes) -> Confirm:
        if len(data) != 2 * NONCE_BYTES + 8 + DIGEST_BYTES:
            raise MessageError("CONFIRM of wrong length")
        session = _session(data[: 2 * NONCE_BYTES], "CONFIRM")
        return cls(session, int.from_bytes(data[32:40], "big"), data[40:])


@dataclass(frozen=True, slots=True)
class Records:
    """The master's new records, from index ``first`` on."""

    kind: ClassVar[int] = 2
    first: int
    records: tuple[bytes, ...]

    def body(self) -> bytes:
        return struct.pack(">Q", self.first) + _pack_records(self.records)

    @classmethod
    def parse(cls, data: bytes) -> Records:
        first, data = _take(data, 8, "index")
        return cls(int.from_bytes(first, "big"), _unpack_records(data))


@dataclass(frozen=True, slots=True)
class Report:
    """The slave's acknowledgement and request in one: its log, how far its out stream is settled, its unsent words that
    are left, and common chunks that it does not hold."""

    kind: ClassVar[int] = 3
    length: int
    settled_words: int
    spent_words: int
    missing: tuple[int, ...] = ()

    def body(self) -> bytes:
        return struct.pack(">QQQ", self.length, self.settled_words, self.spent_words) + _pack_missing(self.missing)

    @classmethod
    def parse(cls, data: bytes) -> Report:
        head, data = _take(data, 24, "REPORT")
        length, settled, spent = struct.unpack(">QQQ", head)
        return cls(length, settled, spent, _unpack_missing(data))


@dataclass(frozen=True, slots=True)
class Offer:
    """The slave's blocks, to be found equal: random H, the blocks, and (padded) a fingerprint of each."""

    kind: ClassVar[int] = 4
    hash_key: bytes
    entries: tuple[BlockEntry, ...]

    def body(self) -> bytes:
        return self.hash_key + pack_entries(self.entries)

    @classmethod
    def parse(cls, data: bytes) -> Offer:
        hash_key, data = _take(data, 16, "OFFER")
        return cls(hash_key, unpack_entries(data))


@dataclass(frozen=True, slots=True)
class Refuse:
    """The master's answer for blocks that differ: both ends destroy theirs."""

    kind: ClassVar[int] = 5
    entries: tuple[BlockEntry, ...]

    def body(self) -> bytes:
        return pack_entries(self.entries)

    @classmethod
    def parse(cls, data: bytes) -> Refuse:
        return cls(unpack_entries(data))


@dataclass(frozen=True, slots=True)
class Ping:
    """Is the peer there? The acknowledgement answers."""

    kind: ClassVar[int] = 6

    def body(self) -> bytes:
        return b""

    @classmethod
    def parse(cls, data: bytes) -> Ping:
        if data:
            raise MessageError("PING with a body")
        return cls()


Control = Confirm | Records | Report | Offer | Refuse | Ping
_CONTROLS: dict[int, type[Control]] = {cls.kind: cls for cls in (Confirm, Records, Report, Offer, Refuse, Ping)}


def pack_control(message: Control) -> bytes:
    return bytes([message.kind]) + message.body()


def unpack_control(data: bytes) -> Control:
    """Raises MessageError."""
    cls = _CONTROLS.get(data[0]) if data else None
    if cls is None:
        raise MessageError("unknown control message")
    try:
        return cls.parse(data[1:])
    except RecordError as error:
        raise MessageError(str(error)) from None
