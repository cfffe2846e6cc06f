"""Security associations made of delivered keys: one key, one unidirectional SA, the same at both ends but for who
receives. The ADD message of an SA is one that a kernel's PF_KEY socket takes as it is; Linux refuses AES-GCM there
(af_key knows no AEAD: such an SA goes in by XFRM netlink) and takes AES-CBC with an HMAC.
"""

from __future__ import annotations

import errno
import heapq
from dataclasses import dataclass
from typing import NamedTuple

from appliance.keys.errors import Refused
from appliance.keys.pfkey import (
    Address,
    Algorithm,
    Ext,
    Key,
    KeyId,
    Lifetime,
    Message,
    MessageType,
    Sa,
    Sa2,
    SaType,
    Value,
    build,
    key_offsets,
)
from appliance.keys.registry import PublicAddress

REPLAY_WINDOW = 32  # packets; what setkey and strongSwan install
MATURE, DYING = 1, 2
Places = tuple[int, int, int, int]


class Cipher(NamedTuple):
    name: str
    key_bytes: tuple[int, ...]  # RFC 4106 keys have 4 bytes of salt at the end
    usual_bytes: int
    iv_bytes: int
    alone: bool  # authenticates too: no KEY_AUTH


CIPHERS = {
    20: Cipher("AES-GCM-16", (20, 28, 36), 36, 8, True),
    12: Cipher("AES-CBC", (16, 24, 32), 32, 16, False),
}
AUTHS = {3: ("HMAC-SHA1", 20), 5: ("HMAC-SHA2-256", 32)}
SUPPORTED_ENCRYPT = tuple(
    Algorithm(number, c.iv_bytes, 8 * c.key_bytes[0], 8 * c.key_bytes[-1]) for number, c in CIPHERS.items()
)
SUPPORTED_AUTH = tuple(Algorithm(number, 0, 8 * size, 8 * size) for number, (_, size) in AUTHS.items())


def split(encrypt: int, auth: int, key_bytes: int) -> tuple[int, int]:
    """Bytes for the cipher and for the HMAC; key_bytes 0 asks for the usual. Raises Refused (EINVAL)."""
    cipher = CIPHERS.get(encrypt)
    if cipher is None:
        raise Refused(errno.EINVAL, f"no encryption algorithm {encrypt} here: {sorted(CIPHERS)}")
    if cipher.alone != (auth == 0) or (auth and auth not in AUTHS):
        right = "takes none" if cipher.alone else f"takes one of {sorted(AUTHS)}"
        raise Refused(errno.EINVAL, f"authentication algorithm {auth}: {cipher.name} {right}")
    auth_bytes = AUTHS[auth][1] if auth else 0
    encrypt_bytes = key_bytes - auth_bytes if key_bytes else cipher.usual_bytes
    if encrypt_bytes not in cipher.key_bytes:
        raise Refused(
            errno.EINVAL, f"{cipher.name} takes a key of {cipher.key_bytes} bytes besides {auth_bytes} for the HMAC"
        )
    return encrypt_bytes, auth_bytes


@dataclass(slots=True, eq=False)
class Association:
    key_id: bytes
    session: int
    client: int
    inbound: bool
    source: PublicAddress
    destination: PublicAddress
    encrypt: int
    auth: int
    encrypt_bytes: int
    auth_bytes: int
    mode: int
    hard: Lifetime
    soft: Lifetime
    spi: int = 0
    state: int = MATURE
    added_s: float = 0.0

    def message(self, kind: int, seq: int = 0, pid: int = 0, with_key: bool = False) -> Message:
        """A message about the SA, without its key or with the places for it."""
        sa = Sa(self.spi, REPLAY_WINDOW, self.state, self.auth, self.encrypt)
        extensions: dict[int, Value] = {
            Ext.SA: sa,
            Ext.SA2: Sa2(self.mode),
            Ext.ADDRESS_SRC: _address(self.source),
            Ext.ADDRESS_DST: _address(self.destination),
        }
        if with_key:
            extensions[Ext.KEY_ENCRYPT] = Key(8 * self.encrypt_bytes)
            if self.auth_bytes:
                extensions[Ext.KEY_AUTH] = Key(8 * self.auth_bytes)
        if any(self.hard):
            extensions[Ext.LIFETIME_HARD] = self.hard
        if any(self.soft):
            extensions[Ext.LIFETIME_SOFT] = self.soft
        extensions[Ext.KEY_ID] = KeyId(0, self.key_id)
        return Message(kind, SaType.ESP, seq, pid, 0, extensions)

    def add_message(self, seq: int = 0, pid: int = 0) -> tuple[bytes, Places]:
        """SADB_ADD and where its key goes."""
        data = build(self.message(MessageType.ADD, seq, pid, with_key=True))
        at = [*key_offsets(data), 0]
        return data, (at[0], self.encrypt_bytes, at[1] if self.auth_bytes else 0, self.auth_bytes)


def _address(ip: PublicAddress) -> Address:
    return Address(0, ip.max_prefixlen, 0, ip)


class AssociationTable:
    """SAs of this end, and when their lifetimes end (seconds of the monotonic clock)."""

    def __init__(self) -> None:
        self.by_key_id: dict[bytes, Association] = {}
        self._deadlines: list[tuple[float, bytes, bool]] = []  # when, key ID, hard

    def add(self, sa: Association, now: float) -> None:
        sa.added_s = now
        self.by_key_id[sa.key_id] = sa
        for lifetime, hard in ((sa.soft, False), (sa.hard, True)):
            if lifetime.addtime:
                heapq.heappush(self._deadlines, (now + lifetime.addtime, sa.key_id, hard))

    def remove(self, key_id: bytes) -> Association | None:
        return self.by_key_id.pop(key_id, None)

    def find(self, client: int, spi: int, destination: PublicAddress | None) -> Association:
        """The client's SA. An SPI is unique at its receiver only, so an outbound one may need its destination. Raises
        Refused (ESRCH, or EINVAL when several match)."""
        found = [
            sa
            for sa in self.by_key_id.values()
            if sa.spi == spi and sa.client == client and destination in (None, sa.destination)
        ]
        if not found:
            raise Refused(errno.ESRCH, f"no SA with SPI {spi:#x}")
        if len(found) > 1:
            raise Refused(errno.EINVAL, f"{len(found)} SAs have SPI {spi:#x}: name the destination address")
        return found[0]

    def due(self, now: float) -> list[tuple[Association, bool]]:
        """SAs whose soft (False) or hard (True) lifetime ended since the last call; hard ones stay until removed."""
        ended = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, key_id, hard = heapq.heappop(self._deadlines)
            sa = self.by_key_id.get(key_id)
            if sa is not None:
                sa.state = DYING
                ended.append((sa, hard))
        return ended

    def deadline(self) -> float | None:
        return self._deadlines[0][0] if self._deadlines else None
