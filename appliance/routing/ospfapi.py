"""ospfd's API (FRR, ospfd/ospf_api.h): the database pushed, opaque LSAs originated. Big-endian.

    | version 1 u8 | type u8 | length u16 of what follows the header | sequence u32 |

The client connects from port P to ospfd's 2607 and sends requests there; ospfd connects back to P + 1 and sends events.
`Session` is the conversation without its sockets: bytes in, `Event`s and bytes out.

ospfd withdraws what a client originated when the client goes, and knows nothing of it after a restart of its own: a new
session registers, asks for the whole database, and originates all again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.routing import lsa
from appliance.routing.lsa import Lsa, LsaType

VERSION = 1
SERVER_PORT = 2607
HEADER = struct.Struct("!BBHI")
LONGEST_BYTES = 1 << 14
LONGEST_OPAQUE_BYTES = 1300  # ospfd 8.4 no longer tells of longer ones
ANY_ORIGIN = 2
WANTED_TYPES = tuple(LsaType)
_FILTER = struct.Struct("!HBB")
_REGISTER = struct.Struct("!BBxx")
_CHANGE = struct.Struct("!IIBxxx")
_DELETE = struct.Struct("!IBBxBI")
_READY = struct.Struct("!BBxxI")


class Message(IntEnum):
    REGISTER_OPAQUE = 1
    UNREGISTER_OPAQUE = 2
    REGISTER_EVENTS = 3
    SYNC = 4
    ORIGINATE = 5
    DELETE = 6
    REPLY = 10
    READY = 11
    UPDATED = 12
    DELETED = 13


ERRORS = {
    -1: "no such interface",
    -2: "no such area",
    -3: "no such LSA",
    -4: "illegal LSA type",
    -5: "the opaque type is in use by another client",
    -6: "the opaque type is not registered",
    -7: "not ready",
    -8: "no memory",
    -9: "an error",
    -10: "undefined",
}


@dataclass(frozen=True, slots=True)
class Changed:
    """ospfd has this LSA now, or has it no longer."""

    area: int
    lsa: Lsa
    gone: bool


@dataclass(frozen=True, slots=True)
class Synchronised:
    """The whole database has been sent."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Opaque LSAs can be originated from now on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    request: Message
    reason: str


Event = Changed | Synchronised | Ready | Refusal


def pack(kind: Message, sequence: int, body: bytes) -> bytes:
    return HEADER.pack(VERSION, kind, len(body), sequence) + body


@dataclass
class Stream:
    """Cuts one connection's bytes into messages."""

    _waiting: bytes = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(type, sequence, body) of each whole message. Raises RemoteProtocolError: api-version, api-length."""
        self._waiting += data
        while len(self._waiting) >= HEADER.size:
            version, kind, length, sequence = HEADER.unpack_from(self._waiting)
            if version != VERSION:
                raise RemoteProtocolError("api-version", f"version {version}: this is not ospfd's API as known here")
            if length > LONGEST_BYTES:
                raise RemoteProtocolError("api-length", f"a message of {length} bytes")
            end = HEADER.size + length
            if len(self._waiting) < end:
                return
            body, self._waiting = self._waiting[HEADER.size : end], self._waiting[end:]
            yield kind, sequence, body


@dataclass
class Session:
    """One connection with ospfd. `opaque_kind`: the opaque type whose LSAs are ours."""

    opaque_kind: int
    dropped: dict[str, int] = field(default_factory=dict)
    _sequence: int = 0
    _asked: dict[int, Message] = field(default_factory=dict)
    _requests: Stream = field(default_factory=Stream)
    _events: Stream = field(default_factory=Stream)

    def start(self) -> bytes:
        """Events first: a change during the synchronisation is then told twice rather than never."""
        mask = sum(1 << (kind - 1) for kind in WANTED_TYPES)
        wanted = _FILTER.pack(mask, ANY_ORIGIN, 0)
        return (
            self._request(Message.REGISTER_EVENTS, wanted)
            + self._request(Message.REGISTER_OPAQUE, _REGISTER.pack(LsaType.OPAQUE_AS, self.opaque_kind))
            + self._request(Message.SYNC, wanted)
        )

    def originate(self, opaque_id: int, body: bytes) -> bytes:
        """A type 11 LSA, new or in place of the one with this id. Raises LocalProtocolError (a bad body)."""
        if len(body) % 4 or len(body) > LONGEST_OPAQUE_BYTES:
            right = f"a multiple of 4 up to {LONGEST_OPAQUE_BYTES} is right"
            raise LocalProtocolError(f"an opaque LSA's body of {len(body)} bytes: {right}")
        header = lsa.pack_header(LsaType.OPAQUE_AS, self.opaque_kind << 24 | opaque_id, 0, body)
        return self._request(Message.ORIGINATE, struct.pack("!II", 0, 0) + header + body)

    def withdraw(self, opaque_id: int) -> bytes:
        return self._request(Message.DELETE, _DELETE.pack(0, LsaType.OPAQUE_AS, self.opaque_kind, 0, opaque_id))

    def _request(self, kind: Message, body: bytes) -> bytes:
        self._sequence = self._sequence % 0x7FFFFFFF + 1
        self._asked[self._sequence] = kind
        return pack(kind, self._sequence, body)

    def receive_replies(self, data: bytes) -> list[Event]:
        """From the connection of requests. Raises RemoteProtocolError: api-version, api-length, api-reply."""
        events: list[Event] = []
        for kind, sequence, body in self._requests.feed(data):
            if kind != Message.REPLY or not body:
                raise RemoteProtocolError("api-reply", f"a message of type {kind} and {len(body)} bytes")
            code = int.from_bytes(body[:1], "big", signed=True)
            asked = self._asked.pop(sequence, None)
            if asked is not None and code != 0:
                events.append(Refusal(asked, ERRORS.get(code, f"error {code}")))
            elif asked is Message.SYNC:
                events.append(Synchronised())
        return events

    def receive_events(self, data: bytes) -> list[Event]:
        """From the connection of events. An LSA that cannot be read is dropped and counted: it is another node's.

        Raises RemoteProtocolError: api-version, api-length.
        """
        events: list[Event] = []
        for kind, _, body in self._events.feed(data):
            try:
                event = self._event(kind, body)
            except RemoteProtocolError as error:
                self.dropped[error.reason] = self.dropped.get(error.reason, 0) + 1
                continue
            if event is not None:
                events.append(event)
        return events

    def _event(self, kind: int, body: bytes) -> Event | None:
        if kind in (Message.UPDATED, Message.DELETED):
            if len(body) < _CHANGE.size:
                raise RemoteProtocolError("api-short", f"{len(body)} bytes")
            _, area, _ = _CHANGE.unpack_from(body)
            return Changed(area, lsa.parse(body[_CHANGE.size :]), kind == Message.DELETED)
        if kind == Message.READY and len(body) >= _READY.size:
            of, opaque_kind, _ = _READY.unpack_from(body)
            return Ready() if (of, opaque_kind) == (LsaType.OPAQUE_AS, self.opaque_kind) else None
        return None
