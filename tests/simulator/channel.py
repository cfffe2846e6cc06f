"""The channel between the ends; its owner, the adversary, loses, doubles, reorders, damages, holds back and replays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from appliance.native.link import HEADER_BYTES
from appliance.q3p.messages import Challenge, HelloRecords, Init, LogStateMessage, Response

from .faults import CALM, Faults, Figures

MS = 1_000_000
SECOND = 1_000_000_000
KEPT_FOR_REPLAY, HELLOS_KEPT = 400, 60
NOT_HELD = -1
AUTHENTICATED = 0x40  # in byte 8 of a packet: the A bit; a hello has none
SEALED = 0  # beside the kinds of hellos, which stand in the clear behind the header
HOLDABLE = (  # which packets are held back together
    {SEALED, *(kind.kind for kind in (Init, Challenge, Response, LogStateMessage, HelloRecords))},
    {HelloRecords.kind},
    {Challenge.kind, Response.kind},
    {SEALED},
)


def kind_of(packet: bytes) -> int:
    return SEALED if packet[8] & AUTHENTICATED else packet[HEADER_BYTES]


class Channel:
    """``at(delay_ns, action)`` schedules; ``receive(end, packet)`` hands a packet over."""

    def __init__(
        self,
        random: Random,
        faults: Faults,
        figures: Figures,
        at: Callable[[int, Callable[[], None]], None],
        receive: Callable[[int, bytes], None],
    ) -> None:
        self._random, self._faults, self._figures = random, faults, figures
        self._at, self._receive = at, receive
        self._sent: deque[tuple[int, bytes]] = deque(maxlen=KEPT_FOR_REPLAY)
        self._hellos: deque[tuple[int, bytes]] = deque(maxlen=HELLOS_KEPT)
        self._cut = False
        self._held_sender = NOT_HELD
        self._held_kinds: set[int] = set()
        self._held: list[bytes] = []
        self._calm = False

    def calm_down(self) -> None:
        """From now on every packet arrives."""
        self._calm, self._cut, self._faults = True, False, CALM
        self._release()

    def cut(self, duration_ns: int) -> None:
        """Nothing gets through for so long."""
        self._cut = True
        self._at(duration_ns, self._mend)

    def _mend(self) -> None:
        self._cut = False

    def withhold(self, sender: int, duration_ns: int) -> None:
        """Hold back what this end sends, or some kinds of it, and deliver it then."""
        if self._held_sender == NOT_HELD and not self._calm:
            self._held_sender, self._held_kinds = sender, self._random.choice(HOLDABLE)
            self._at(duration_ns, self._release)

    def _release(self) -> None:
        sender, packets = self._held_sender, self._held
        self._held_sender, self._held = NOT_HELD, []
        self._figures.withheld_packets += len(packets)
        spread = self._random.choice((1, 300, 3000)) * MS
        for packet in packets:
            self._carry(1 - sender, packet, self._random.randrange(1, spread))

    def transmit(self, sender: int, packet: bytes) -> None:
        self._figures.packets += 1
        faults, draw = self._faults, self._random.random
        kind = kind_of(packet)
        kept = self._sent if kind == SEALED else self._hellos
        kept.append((sender, packet))
        if self._cut:
            return
        if sender == self._held_sender and kind in self._held_kinds:
            self._held.append(packet)
            return
        copies = (0 if draw() < faults.loss else 1) + (1 if draw() < faults.duplication else 0)
        for _ in range(copies):
            delay = MS + int(draw() * (150 * MS if draw() < faults.reordering else MS))
            self._carry(1 - sender, self._perhaps_damaged(packet), delay)
        if draw() < faults.replay:
            self._replay()

    def _replay(self) -> None:
        """Anything sent before; now and then to its own sender."""
        kept = self._random.choice((self._sent, self._hellos))
        if not kept:
            return
        sender, packet = self._random.choice(kept)
        self._figures.replayed_packets += 1
        receiver = sender if self._random.random() < 0.2 else 1 - sender
        self._carry(receiver, packet, self._random.randrange(SECOND))

    def _perhaps_damaged(self, packet: bytes) -> bytes:
        random = self._random
        if random.random() >= self._faults.corruption:
            return packet
        broken = bytearray(packet)
        kind = random.random()
        if kind < 0.6:
            broken[random.randrange(len(broken))] ^= 1 << random.randrange(8)
        elif kind < 0.8:
            del broken[random.randrange(len(broken)) :]
        else:
            broken[12:20] = random.randbytes(8)
        return bytes(broken)

    def _carry(self, receiver: int, packet: bytes, delay_ns: int) -> None:
        self._at(delay_ns, lambda: self._receive(receiver, packet))
