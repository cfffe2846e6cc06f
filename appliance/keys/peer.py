"""What two keys services tell each other about the keys of a connection: clear messages that the courier
carries beside the connection, authenticated hop by hop. Big-endian; the first byte is the kind.

HELLO      each end, once: its application, and how long it holds keys that its application has not fetched
ASSIGN     asking end: this key, which you hold, is now this SA. spi 0: you receive, so allocate it and install first
INSTALLED  answer: installed at this end, under this SPI
REFUSED    answer: not installed, why; the key is gone at this end
DELETE     either end: these keys are gone here, unused keys and SAs alike

Order does not matter: a message that names a key which is not there is answered (ASSIGN: REFUSED, INSTALLED: DELETE)
or has nothing left to do (DELETE, REFUSED).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, ip_address
from typing import NamedTuple, TypeAlias

from appliance.keys.registry import PublicAddress
from appliance.network.errors import RemoteProtocolError

VERSION = 1
KEY_ID_BYTES = 16
DELETE_MAX = 30  # key IDs in one message
REASON_MAX_BYTES = 200


class Hello(NamedTuple):
    satype: int
    port: int
    hold_s: int
    address: PublicAddress


class Assign(NamedTuple):
    """inbound: at the asking end. Lifetimes as in PF_KEY; 0 is none."""

    key_id: bytes
    inbound: bool
    spi: int
    encrypt: int
    auth: int
    mode: int
    hard_s: int
    soft_s: int
    hard_bytes: int
    soft_bytes: int


class Installed(NamedTuple):
    key_id: bytes
    spi: int


class Refusal(NamedTuple):
    key_id: bytes
    errno: int
    reason: str


class Delete(NamedTuple):
    key_ids: tuple[bytes, ...]


PeerMessage: TypeAlias = Hello | Assign | Installed | Refusal | Delete

_HELLO = struct.Struct(">BBBHIB")  # kind version satype port hold_s address-length, address
_ASSIGN = struct.Struct(">B16s?IBBBIIQQ")
_INSTALLED = struct.Struct(">B16sI")
_REFUSED = struct.Struct(">B16sB")  # then the reason, UTF-8
_KINDS: dict[int, type[PeerMessage]] = {1: Hello, 2: Assign, 3: Installed, 4: Refusal, 5: Delete}


def encode(message: PeerMessage) -> bytes:
    if isinstance(message, Hello):
        packed = message.address.packed
        return _HELLO.pack(1, VERSION, message.satype, message.port, message.hold_s, len(packed)) + packed
    if isinstance(message, Assign):
        return _ASSIGN.pack(2, *message)
    if isinstance(message, Installed):
        return _INSTALLED.pack(3, *message)
    if isinstance(message, Refusal):
        text = message.reason.encode()[:REASON_MAX_BYTES]
        return _REFUSED.pack(4, message.key_id, message.errno) + text
    if len(message.key_ids) > DELETE_MAX:
        raise ValueError(f"a DELETE names at most {DELETE_MAX} keys")
    return b"\5" + b"".join(message.key_ids)


def decode(data: bytes) -> PeerMessage:
    """Raises RemoteProtocolError and nothing else."""
    kind = _KINDS.get(data[0]) if data else None
    try:
        if kind is Hello:
            _, version, satype, port, hold_s, length = _HELLO.unpack_from(data)
            packed = data[_HELLO.size :]
            if version != VERSION or len(packed) != length or length not in (4, 16):
                raise RemoteProtocolError("keys-hello", f"version {version}, address of {length} bytes")
            return Hello(satype, port, hold_s, IPv4Address(packed) if length == 4 else ip_address(packed))
        if kind is Assign:
            return Assign(*_ASSIGN.unpack(data)[1:])
        if kind is Installed:
            return Installed(*_INSTALLED.unpack(data)[1:])
        if kind is Refusal:
            _, key_id, number = _REFUSED.unpack_from(data)
            return Refusal(key_id, number, data[_REFUSED.size :][:REASON_MAX_BYTES].decode("utf-8", "replace"))
    except struct.error:
        raise RemoteProtocolError("keys-message", f"kind {data[0]} in {len(data)} bytes") from None
    body = data[1:]
    if kind is not Delete or len(body) % KEY_ID_BYTES or not 0 < len(body) <= DELETE_MAX * KEY_ID_BYTES:
        raise RemoteProtocolError("keys-message", f"{len(data)} bytes of no known kind")
    return Delete(tuple(body[at : at + KEY_ID_BYTES] for at in range(0, len(body), KEY_ID_BYTES)))
