"""Applications of the whole network, carried by opaque LSAs of type 11 (RFC 5250; paper 3.3, registration phase).

One LSA holds several registrations of one node. Its body, big-endian:

    | version 1 u8 | 0 u8 | count u16 |
    each: | record length u16 | port u16 | node address u32 | kind u8 | name bytes u8 | public bytes u8 | 0 u8 |
          | name (UTF-8) | public address (0, 4 or 16 bytes) | zeros to a multiple of 4 |

ospfd floods a new opaque id at once but one that changes only every 5 s, so a change goes into a new LSA and what it
replaces is withdrawn after. Registrations that come one by one would make one LSA each: a new LSA takes along those
that are no longer than itself, as a binary counter carries, so few are short and each record moves few times.

A node registers addresses of its own network only: others' are dropped as forged. Whether the node can be reached is
the routing table's to say: an LSA outlives its node by up to an hour. So that other areas can tell, a node with
registrations is an AS boundary router, of which border nodes advertise each one (RFC 5250 5, RFC 2328 12.4.3).
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from appliance.network.address import node_network
from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.routing.lsa import OpaqueBody

OPAQUE_KIND = 200  # of the range for private use, 128..255
VERSION = 1
BODY_BYTES = 1200  # with its headers in one packet of the network's MTU, 1280
NAME_BYTES = 64
MOST_IDS = 1 << 24
_HEAD = struct.Struct("!BBH")
_RECORD = struct.Struct("!HHIBBBB")
PublicAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Registration:
    """An application: at a node by address and port; by name when it has one. `public`: where it is outside."""

    address: IPv4Address
    port: int
    kind: int = 0  # SA type
    name: str = ""
    public: PublicAddress | None = None


def check_name(name: str) -> None:
    """Raises LocalProtocolError."""
    if len(name.encode(errors="replace")) > NAME_BYTES or not name.isprintable() or name != name.strip():
        raise LocalProtocolError(
            f"a name has up to {NAME_BYTES} printable bytes, without blanks around it, not {name[:80]!r}"
        )


def pack_record(one: Registration) -> bytes:
    """Raises LocalProtocolError."""
    check_name(one.name)
    name, public = one.name.encode(), one.public.packed if one.public is not None else b""
    if not 1 <= one.port <= 65535 or not 0 <= one.kind <= 255:
        raise LocalProtocolError(f"port {one.port}, kind {one.kind}: 1 to 65535 and 0 to 255 are right")
    length = _RECORD.size + -(-(len(name) + len(public)) // 4) * 4
    head = _RECORD.pack(length, one.port, int(one.address), one.kind, len(name), len(public), 0)
    return (head + name + public).ljust(length, b"\0")


def pack_body(records: Collection[Registration]) -> bytes:
    return _HEAD.pack(VERSION, 0, len(records)) + b"".join(pack_record(one) for one in records)


def parse_body(data: bytes) -> tuple[Registration, ...]:
    """Raises RemoteProtocolError: registration-version, registration-length, registration-name."""
    if len(data) < _HEAD.size or data[0] != VERSION:
        raise RemoteProtocolError("registration-version")
    count, at, found = _HEAD.unpack_from(data)[2], _HEAD.size, []
    for _ in range(count):
        if at + _RECORD.size > len(data):
            raise RemoteProtocolError("registration-length", f"{count} records in {len(data)} bytes")
        length, port, address, kind, name_bytes, public_bytes, _ = _RECORD.unpack_from(data, at)
        end = at + _RECORD.size + name_bytes + public_bytes
        if length % 4 or not end <= at + length <= len(data) or public_bytes not in (0, 4, 16) or port == 0:
            raise RemoteProtocolError("registration-length", f"a record of {length} bytes at {at}")
        try:
            name = data[at + _RECORD.size : end - public_bytes].decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("registration-name", "not UTF-8") from None
        if not name.isprintable() or name_bytes > NAME_BYTES:
            raise RemoteProtocolError("registration-name", "not printable")
        public = ip_address(data[end - public_bytes : end]) if public_bytes else None
        found.append(Registration(IPv4Address(address), port, kind, name, public))
        at += length
    if at != len(data):
        raise RemoteProtocolError("registration-length", f"{len(data) - at} bytes behind the records")
    return tuple(found)


class Action(NamedTuple):
    """To ospfd: originate `body` under `opaque_id`, or withdraw it when there is none."""

    opaque_id: int
    body: bytes | None


class Publisher:
    """This node's registrations and the LSAs they are in. `first_id` at random: ids of a former life are left alone."""

    def __init__(self, node: IPv4Address, first_id: int) -> None:
        self._network = node_network(node)
        self._next_id = first_id % MOST_IDS
        self._lsas: dict[int, tuple[Registration, ...]] = {}
        self._wanted: dict[Registration, None] = {}

    def add(self, one: Registration) -> None:
        """Raises LocalProtocolError for an address of another node."""
        if one.address not in self._network:
            raise LocalProtocolError(f"{one.address} is not in this node's network {self._network}")
        pack_record(one)
        self._wanted[one] = None

    def remove(self, one: Registration) -> None:
        self._wanted.pop(one, None)

    def all(self) -> list[Registration]:
        return list(self._wanted)

    def flush(self) -> list[Action]:
        """What ospfd has to do since the last time; new LSAs before those they replace."""
        published = {one for records in self._lsas.values() for one in records}
        moving = [one for one in self._wanted if one not in published]
        replaced = [key for key, records in self._lsas.items() if any(one not in self._wanted for one in records)]
        for key in replaced:
            moving += [one for one in self._lsas[key] if one in self._wanted]
        if moving:
            replaced += self._carry(moving, replaced)
        for key in replaced:
            del self._lsas[key]
        new = [self._place(records) for records in packed(moving)]
        return [Action(key, pack_body(self._lsas[key])) for key in new] + [Action(key, None) for key in replaced]

    def _carry(self, moving: list[Registration], but: Collection[int]) -> list[int]:
        """Moves the records of LSAs no longer than what is moving already, shortest first, while they fit with it."""
        size, taken = sum(len(pack_record(one)) for one in moving), []
        lengths = {key: len(pack_body(records)) - _HEAD.size for key, records in self._lsas.items() if key not in but}
        for key, length in sorted(lengths.items(), key=lambda item: item[1]):
            if length > size or length + size % (BODY_BYTES - _HEAD.size) > BODY_BYTES - _HEAD.size:
                break
            size += length
            moving += self._lsas[key]
            taken.append(key)
        return taken

    def _place(self, records: tuple[Registration, ...]) -> int:
        while self._next_id in self._lsas:
            self._next_id = (self._next_id + 1) % MOST_IDS
        key = self._next_id
        self._next_id = (key + 1) % MOST_IDS
        self._lsas[key] = records
        return key

    def again(self) -> list[Action]:
        """All of it, for an ospfd that knows nothing."""
        return [Action(key, pack_body(records)) for key, records in self._lsas.items()]


def packed(records: Iterable[Registration]) -> list[tuple[Registration, ...]]:
    """Groups whose bodies are BODY_BYTES at most."""
    groups: list[list[Registration]] = []
    room = 0
    for one in records:
        size = len(pack_record(one))
        if size > room:
            groups.append([])
            room = BODY_BYTES - _HEAD.size
        groups[-1].append(one)
        room -= size
    return [tuple(group) for group in groups]


@dataclass
class Directory:
    """All registrations of the network, out of the database's opaque LSAs."""

    dropped: dict[str, int] = field(default_factory=dict)
    _parsed: dict[tuple[int, OpaqueBody], tuple[Registration, ...]] = field(default_factory=dict)
    _by_name: dict[str, dict[Registration, int]] = field(default_factory=dict)
    _by_port: dict[tuple[IPv4Address, int], tuple[Registration, int]] = field(default_factory=dict)

    def rebuild(self, lsas: Iterable[tuple[int, OpaqueBody]]) -> None:
        """(advertising router, body) of each LSA of our kind. Bodies that were there before are not read again."""
        before, self._parsed = self._parsed, {}
        self._by_name, self._by_port = {}, {}
        for key in lsas:
            records = before[key] if key in before else self._read(*key)
            self._parsed[key] = records
            for one in records:
                self._by_port[one.address, one.port] = one, key[0]
                if one.name:
                    self._by_name.setdefault(one.name, {})[one] = key[0]

    def _read(self, router: int, body: OpaqueBody) -> tuple[Registration, ...]:
        try:
            records = parse_body(body.data)
        except RemoteProtocolError as error:
            self._drop(error.reason)
            return ()
        network = node_network(IPv4Address(router))
        if any(one.address not in network for one in records):
            self._drop("registration-forged")  # one lie, and nothing else of the LSA is believed
            return ()
        return records

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def named(self, name: str) -> list[tuple[Registration, int]]:
        """With the router id of each one's node. More than one when several nodes or ports use the name."""
        return list(self._by_name.get(name, {}).items())

    def at(self, address: IPv4Address, port: int) -> list[tuple[Registration, int]]:
        found = self._by_port.get((address, port))
        return [found] if found is not None else []

    def all(self) -> list[tuple[Registration, int]]:
        return list(self._by_port.values())
