"""Session key packets of the simulated traffic: a QKDNL packet with one QKDTL KEY segment of one key."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

_NETWORK = struct.Struct(">BBHHHBBHII")
_TRANSPORT = struct.Struct(">HHIIBBHHH")
KEY_FLAG = 16
CLEAR = 20 + 20 + 4 + 16


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def key_packet(source: IPv4Address, destination: IPv4Address, serial: int, key: bytes) -> bytes:
    """Serial number ``serial`` names the key."""
    length = CLEAR + len(key)
    header = _NETWORK.pack(0x45, 0, length, 0, 0, 32, 253, 0, int(source), int(destination))
    header = header[:10] + struct.pack(">H", _checksum(header)) + header[12:]
    segment = _TRANSPORT.pack(7, 9, serial & 0xFFFFFFFF, 0, KEY_FLAG, 0, 64, 20 + 4 + 16, 0)
    body = struct.pack(">HH", 1, len(key)) + bytes(8) + struct.pack(">Q", serial)
    pseudo = struct.pack(">IIBBH", int(source), int(destination), 0, 253, length - 20)
    check = _checksum(pseudo + segment + body)
    return header + segment[:18] + struct.pack(">H", check) + body + key


def key_packet_clear(packet: bytes) -> int:
    return CLEAR


def key_packet_id(packet: bytes) -> bytes:
    return packet[CLEAR - 16 : CLEAR]


def key_packet_key(packet: bytes) -> bytes:
    return packet[CLEAR:]
