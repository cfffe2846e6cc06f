"""Carries the keys services' messages (peer.py) to each other: small, clear, reliable, each exactly once, in no
promised order. Pure: packets and time in, packets and messages out.

A message is a QKDTL segment of its own: ports 0 and no flag, which no connection uses, so the transport proper never
sees it. Behind the header, big-endian:

    | life u64: one run of the sender | number u32 | kind u8 | sender's port u16 | receiver's port u16 | message ... |

The ports name the connection that the message is about. The answer has kind ACK and repeats life and number. A message
about a connection that the receiver does not know is not acknowledged: it may have overtaken the connection's set-up.
Each packet costs a tag of key on every hop, so the keys that applications take from stock are not announced at all.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from appliance.network import packet as network
from appliance.network.checksum import internet_checksum
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

MESSAGE_MAX_BYTES = 512
UNACKNOWLEDGED_MOST = 4096
FIRST_WAIT_S = 0.25  # doubles up to LONGEST_WAIT_S
LONGEST_WAIT_S = 2.0
GIVE_UP_S = 30.0
LIVES_KEPT = 4  # runs of one peer whose messages are told from repetitions
MESSAGE, ACK = 1, 2

_HEADER = struct.Struct("!HHIIBBHHH")
_BODY = struct.Struct("!QIBHH")
_PSEUDO = struct.Struct("!IIHH")

# about a connection: own port, remote node, remote port. True when the connection is known, so the message has arrived.
Deliver = Callable[[int, IPv4Address, int, bytes], bool]


@dataclass(slots=True)
class _Sent:
    remote: IPv4Address
    packet: bytes
    begun_s: float
    again_s: float
    wait_s: float = FIRST_WAIT_S


@dataclass(slots=True)
class _Life:
    """Numbers that arrived: all below floor, and those above."""

    floor: int = 1
    above: set[int] = field(default_factory=set)

    def seen(self, number: int) -> bool:
        return number < self.floor or number in self.above

    def note(self, number: int) -> None:
        self.above.add(number)
        while self.floor in self.above:
            self.above.discard(self.floor)
            self.floor += 1


def is_message(clear: bytes) -> bool:
    """Whether a QKDNL packet of protocol QKDTL is the courier's: both ports 0."""
    return len(clear) >= 24 and clear[0] == 0x45 and clear[9] == network.PROTOCOL_QKDTL and not any(clear[20:24])


class Courier:
    def __init__(self, address: IPv4Address, random: Callable[[int], bytes], deliver: Deliver) -> None:
        self._address = address
        self._life = int.from_bytes(random(8), "big")
        self._deliver = deliver
        self._next = 1
        self._sent: OrderedDict[int, _Sent] = OrderedDict()
        self._lives: dict[IPv4Address, OrderedDict[int, _Life]] = {}
        self._outgoing: list[bytes] = []
        self.given_up = 0

    def send(self, now: float, local_port: int, remote: IPv4Address, remote_port: int, data: bytes) -> None:
        """Raises LocalProtocolError when too many messages are unacknowledged, or for one that is too long."""
        if len(data) > MESSAGE_MAX_BYTES:
            raise LocalProtocolError(f"a message has at most {MESSAGE_MAX_BYTES} bytes, not {len(data)}")
        if len(self._sent) >= UNACKNOWLEDGED_MOST:
            raise LocalProtocolError(f"{UNACKNOWLEDGED_MOST} messages are unacknowledged")
        body = _BODY.pack(self._life, self._next, MESSAGE, local_port, remote_port) + data
        sent = _Sent(remote, self._pack(remote, body), now, now + FIRST_WAIT_S)
        self._sent[self._next] = sent
        self._next += 1
        self._outgoing.append(sent.packet)

    def _pack(self, remote: IPv4Address, body: bytes) -> bytes:
        length = _HEADER.size + len(body)
        source, destination = int(self._address), int(remote)
        pseudo = _PSEUDO.pack(source, destination, network.PROTOCOL_QKDTL, length)
        checksum = internet_checksum(pseudo + _HEADER.pack(0, 0, 0, 0, 0, 0, 0, length, 0) + body)
        segment = _HEADER.pack(0, 0, 0, 0, 0, 0, 0, length, checksum) + body
        return network.pack(source, destination, network.PROTOCOL_QKDTL, segment)

    def receive(self, now: float, clear: bytes) -> None:
        """A packet for which is_message holds. Raises RemoteProtocolError."""
        outer = network.parse(clear)
        data = outer.payload
        if outer.destination != self._address or outer.source == self._address:
            raise RemoteProtocolError("message-address")
        if len(data) < _HEADER.size + _BODY.size or outer.length_bytes != len(clear):
            raise RemoteProtocolError("message-short", f"{len(data)} bytes")
        pseudo = _PSEUDO.pack(int(outer.source), int(outer.destination), network.PROTOCOL_QKDTL, len(data))
        if internet_checksum(pseudo + data) != 0:
            raise RemoteProtocolError("message-checksum")
        _, _, _, _, flags, _, _, length, _ = _HEADER.unpack_from(data)
        life, number, kind, remote_port, local_port = _BODY.unpack_from(data, _HEADER.size)
        if flags or length != len(data) or kind not in (MESSAGE, ACK):
            raise RemoteProtocolError("message-kind", str(kind))
        if kind == ACK:
            sent = self._sent.get(number)
            if life == self._life and sent is not None and sent.remote == outer.source:
                del self._sent[number]
            return
        known = self._life_of(outer.source, life)
        if not known.seen(number):
            text = data[_HEADER.size + _BODY.size :]
            if not self._deliver(local_port, outer.source, remote_port, text):
                return
            known.note(number)
        self._outgoing.append(self._pack(outer.source, _BODY.pack(life, number, ACK, local_port, remote_port)))

    def _life_of(self, remote: IPv4Address, life: int) -> _Life:
        lives = self._lives.setdefault(remote, OrderedDict())
        known = lives.setdefault(life, _Life())
        lives.move_to_end(life)
        while len(lives) > LIVES_KEPT:
            lives.popitem(last=False)
        return known

    def tick(self, now: float) -> None:
        for number, sent in list(self._sent.items()):
            if now - sent.begun_s >= GIVE_UP_S:
                del self._sent[number]
                self.given_up += 1
            elif now >= sent.again_s:
                sent.wait_s = min(2 * sent.wait_s, LONGEST_WAIT_S)
                sent.again_s = now + sent.wait_s
                self._outgoing.append(sent.packet)

    def deadline(self) -> float | None:
        return min((sent.again_s for sent in self._sent.values()), default=None)

    def outgoing(self) -> list[bytes]:
        """Take the packets to send now."""
        going, self._outgoing = self._outgoing, []
        return going
