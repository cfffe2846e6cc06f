"""The exchange of photons over a simulated fibre, played out as counts. Pure: pulses and generators come in.

`Exchange.play(pulses)` sends that many pulses. Signal, weak decoy and vacuum pulses are clicks by chance
(binomial), half of the clicks survive sifting, and errors are drawn among these. From what has gathered the
secret length is bounded by the measured gains and error rates, and each time it covers a block there is one.

A batch whose error rate exceeds the threshold of the ends spoils what was gathered: the block in the making
is discarded, as it cannot be told when the eavesdropper began.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from appliance.devices import decoystate
from appliance.devices.decoystate import GYS, Observed, System

SIGNAL_SHARE, DECOY_SHARE = 0.80, 0.15  # of the pulses; the rest are vacuum
SEED_BYTES = 32
SMALLEST_SAMPLE_BITS = 400  # sifted bits from which an error rate is concluded
EXACT_BELOW = 64


def binomial(n: int, p: float, random: Random) -> int:
    """An exact binomial draw in O(log n) steps, for any n.

    The i-th smallest of n uniform numbers is Beta(i, n + 1 - i): drawing the middle one tells how p splits
    the rest (J. H. Ahrens, U. Dieter, Computing 12, 223 (1974)).
    """
    successes = 0
    while n > EXACT_BELOW:
        if p <= 0 or p >= 1:
            return successes + (n if p >= 1 else 0)
        middle = n // 2 + 1
        split = random.betavariate(middle, n + 1 - middle)
        if split >= p:
            n, p = middle - 1, p / split
        else:
            successes, n, p = successes + middle, n - middle, (p - split) / (1 - split)
    return successes + sum(random.random() < p for _ in range(n))


@dataclass
class Counts:
    """Pulses of one intensity and what became of them."""

    pulses: int = 0
    clicks: int = 0
    sifted: int = 0
    errors: int = 0

    def add(self, other: Counts) -> None:
        self.pulses += other.pulses
        self.clicks += other.clicks
        self.sifted += other.sifted
        self.errors += other.errors

    @property
    def gain(self) -> float:
        return self.clicks / self.pulses if self.pulses else 0.0

    @property
    def qber(self) -> float:
        return self.errors / self.sifted if self.sifted else 0.0


@dataclass
class Tally:
    signal: Counts = field(default_factory=Counts)
    decoy: Counts = field(default_factory=Counts)
    vacuum: Counts = field(default_factory=Counts)

    def add(self, other: Tally) -> None:
        self.signal.add(other.signal)
        self.decoy.add(other.decoy)
        self.vacuum.add(other.vacuum)

    def secret_bits(self, system: System) -> int:
        """By the bounds of decoystate.py on what was measured."""
        seen = Observed(self.signal.gain, self.signal.qber, self.decoy.gain, self.decoy.qber, self.vacuum.gain)
        return int(self.signal.pulses * decoystate.secret_fraction(system, seen))


@dataclass(frozen=True)
class Batch:
    """Counts of signal pulses since the last one: what both ends publish to compare."""

    pulses: int
    clicks: int
    sifted_bits: int
    error_bits: int

    @property
    def qber(self) -> float:
        return self.error_bits / self.sifted_bits if self.sifted_bits else 0.0


@dataclass(frozen=True)
class NewBlock:
    """Key at both ends. `seed` is what the block is made from; the one who sends it on wipes it."""

    id: int
    length_bytes: int
    qber: float
    seed: bytearray


@dataclass(frozen=True)
class Discarded:
    """The block in the making, discarded for the error rate of a batch."""

    qber: float
    secret_bits: int


Event = Batch | NewBlock | Discarded


@dataclass
class Fibre:
    """The state of the channel that operators and attackers change."""

    distance_km: float = 25.0
    tapped: float = 0.0  # fraction of pulses intercepted and resent
    cut: bool = False


class Exchange:
    """Both ends of the channel, up to the privacy-amplified block."""

    def __init__(
        self,
        random: Random,
        token: Callable[[int], bytes],
        first_id: int,
        block_bytes: int = 4096,
        system: System = GYS,
        fibre: Fibre | None = None,
    ) -> None:
        self.fibre = fibre or Fibre()
        self.qber_limit = 0.11
        self.block_bytes = block_bytes
        self._system = system
        self._random, self._token = random, token
        self._next_id = first_id
        self._gathered = Tally()
        self._carried_bits = 0  # secret bits left over from the last block
        self._batch = Counts()

    def play(self, pulses: int) -> Iterator[Event]:
        """Sends `pulses` pulses; yields a Batch, and the blocks that became ready or were discarded."""
        tally = self._send(pulses)
        self._gathered.add(tally)
        self._batch.add(tally.signal)
        yield Batch(tally.signal.pulses, tally.signal.clicks, tally.signal.sifted, tally.signal.errors)
        if self._batch.sifted < SMALLEST_SAMPLE_BITS:
            return
        batch, self._batch = self._batch, Counts()
        if batch.qber > self.qber_limit:
            yield self._discard(batch.qber)
        else:
            yield from self._harvest()

    def restart(self) -> None:
        """Forgets what was gathered: an end lost its part."""
        self._gathered, self._batch, self._carried_bits = Tally(), Counts(), 0

    def _send(self, pulses: int) -> Tally:
        signal, decoy = round(pulses * SIGNAL_SHARE), round(pulses * DECOY_SHARE)
        return Tally(
            self._detect(signal, self._system.signal_intensity),
            self._detect(decoy, self._system.decoy_intensity),
            self._detect(pulses - signal - decoy, 0.0),
        )

    def _detect(self, pulses: int, intensity: float) -> Counts:
        system, fibre, random = self._system, self.fibre, self._random
        eta = 0.0 if fibre.cut else decoystate.transmittance(system, fibre.distance_km)
        clicks = binomial(pulses, decoystate.gain(system, eta, intensity), random)
        sifted = binomial(clicks, 0.5, random)
        error_rate = decoystate.error_rate(system, eta, intensity, fibre.tapped)
        return Counts(pulses, clicks, sifted, binomial(sifted, error_rate, random))

    def _discard(self, qber: float) -> Discarded:
        lost = self._carried_bits + self._gathered.secret_bits(self._system)
        self.restart()
        return Discarded(qber, lost)

    def _harvest(self) -> Iterator[NewBlock]:
        block_bits = 8 * self.block_bytes
        secret_bits = self._carried_bits + self._gathered.secret_bits(self._system)
        if secret_bits < block_bits:
            return
        qber = self._gathered.signal.qber
        self._gathered, self._carried_bits = Tally(), secret_bits % block_bits
        for _ in range(secret_bits // block_bits):
            yield NewBlock(self._next_id, self.block_bytes, qber, bytearray(self._token(SEED_BYTES)))
            self._next_id += 1


def dark_clicks_limit(system: System, pulses: int) -> float:
    """Clicks of `pulses` pulses that darkness explains (mean plus five deviations of a Poisson count)."""
    mean = system.dark_probability * pulses
    return mean + 5 * math.sqrt(mean) + 1
