"""Messages between the routing unit and the data plane, over RUNDIR/routing.sock (SOCK_SEQPACKET).

Text is JSON and starts with "{"; a packet is

    | 2 u8 | link index u16, big-endian | IPv4 packet of protocol 89 |

in either direction. From the data plane, on change and every two seconds:

    {"type": "links", "links": [{"name", "index", "peer", "usable", "rate_bps", "stored_bytes"}]}

To it, a whole routing table in parts, for a message is not longer than a socket's buffer:

    {"type": "table", "version": n, "part": 0.., "parts": k,
     "entries": [[prefix, bits, [[link index, cost, loop free], ...]], ...]}

Entries are by longest prefix first, choices by cost. All choices are the best or loop-free, so the data plane may
take any of them; in a hold time they are best ones alone.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from appliance.network.errors import RemoteProtocolError
from appliance.routing.lsa import mask_of

PACKET = 2
ROWS_PER_PART = 256
MOST_PARTS = 1024
MESSAGE_BYTES = 1 << 18
_PACKET = struct.Struct("!BH")


class Row(NamedTuple):
    """What the data plane gets of one prefix: (link, cost, loop free), best first."""

    prefix: int
    bits: int
    choices: tuple[tuple[str, int, bool], ...]


class Choice(NamedTuple):
    link: int
    cost: int
    loop_free: bool


class TableEntry(NamedTuple):
    """One destination as the data plane has it, best choice first."""

    prefix: int
    bits: int
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class LinkState:
    name: str
    index: int
    peer: IPv4Address
    usable: bool
    rate_bps: float
    stored_bytes: int


def pack_packet(link: int, packet: bytes) -> bytes:
    return _PACKET.pack(PACKET, link) + packet


def split_packet(message: bytes) -> tuple[int, bytes] | None:
    """(link index, packet), or None when the message is text. Raises RemoteProtocolError: port-kind."""
    if message[:1] == b"{":
        return None
    if len(message) < _PACKET.size or message[0] != PACKET:
        raise RemoteProtocolError("port-kind", f"a message that starts with {message[:1].hex()}")
    return _PACKET.unpack_from(message)[1], message[_PACKET.size :]


def table_messages(version: int, rows: Sequence[Row], indexes: Mapping[str, int]) -> list[bytes]:
    """A table in parts; links that the data plane does not have are left out."""
    entries = []
    for row in rows:
        choices = [(indexes[link], cost, free) for link, cost, free in row.choices if link in indexes]
        if choices:
            entries.append((str(IPv4Address(row.prefix)), row.bits, choices))
    parts = [entries[at : at + ROWS_PER_PART] for at in range(0, len(entries), ROWS_PER_PART)] or [[]]
    return [
        json.dumps(
            {"type": "table", "version": version, "part": number, "parts": len(parts), "entries": part},
            separators=(",", ":"),
        ).encode()
        for number, part in enumerate(parts)
    ]


def parse_text(message: bytes) -> dict[str, Any]:
    """Raises RemoteProtocolError: port-text."""
    try:
        read = json.loads(message)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("port-text", "not JSON") from None
    if not isinstance(read, dict):
        raise RemoteProtocolError("port-text", "not an object")
    return read


def parse_links(message: Mapping[str, Any]) -> list[LinkState]:
    """Raises RemoteProtocolError: port-links."""
    try:
        return [
            LinkState(
                str(link["name"]),
                int(link["index"]),
                IPv4Address(link["peer"]),
                link["usable"] is True,
                float(link["rate_bps"]),
                int(link["stored_bytes"]),
            )
            for link in message["links"]
        ]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RemoteProtocolError("port-links", str(error)) from None


@dataclass
class Assembly:
    """Puts the parts of a table together. A part out of its order starts nothing and ends nothing."""

    links: int  # of the data plane
    _version: int = -1
    _entries: list[TableEntry] = field(default_factory=list)
    _next: int = 0

    def add(self, message: Mapping[str, Any]) -> list[TableEntry] | None:
        """The table when this was its last part. Raises RemoteProtocolError: port-table."""
        version, part, parts = (_whole(message.get(name)) for name in ("version", "part", "parts"))
        if not 0 <= part < parts <= MOST_PARTS:
            raise RemoteProtocolError("port-table", f"part {part} of {parts}")
        if part == 0:
            self._version, self._entries, self._next = version, [], 0
        if (version, part) != (self._version, self._next):
            raise RemoteProtocolError("port-table", f"part {part} of version {version} is out of order")
        entries = message.get("entries")
        if not isinstance(entries, list):
            raise RemoteProtocolError("port-table", "no entries")
        self._entries += [self._entry(entry) for entry in entries]
        self._next += 1
        return self._entries if self._next == parts else None

    def _entry(self, entry: Any) -> TableEntry:
        try:
            prefix, bits, choices = entry
            number, bits = int(IPv4Address(prefix)), _whole(bits)
            read = tuple(Choice(_whole(link), _whole(cost), free is True) for link, cost, free in choices)
        except (TypeError, ValueError) as error:
            raise RemoteProtocolError("port-table", f"{error} in {str(entry)[:80]}") from None
        if not 0 <= bits <= 32 or number & ~mask_of(bits):
            raise RemoteProtocolError("port-table", f"{prefix}/{bits} is no prefix")
        if not read or any(not 0 <= choice.link < self.links for choice in read):
            raise RemoteProtocolError("port-table", f"{prefix}/{bits} by a link that is not there")
        return TableEntry(number, bits, read)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise RemoteProtocolError("port-table", f"{str(value)[:40]} is no whole number")
    return value
