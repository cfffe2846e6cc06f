"""What one end concludes from the counts: too many errors, no light, stalled. Pure; time in seconds comes in.

    cause      on when                                              off when
    qber       a sample's error rate exceeds the threshold          `clear_after_blocks` good blocks in a row
    no-light   two batches in a row with dark counts alone          a batch with light
    stalled    nothing heard of the exchange for stalled_after_s    anything is heard

Each change comes out once, as an Alarm.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.devices.decoystate import GYS, System
from appliance.devices.simulated import SMALLEST_SAMPLE_BITS, Batch, dark_clicks_limit

DARK_BATCHES = 2
QBER, NO_LIGHT, STALLED = "qber", "no-light", "stalled"


@dataclass(frozen=True)
class Alarm:
    cause: str
    on: bool
    qber: float


class Judge:
    """One end's judgement. `active` holds the causes that are on."""

    def __init__(
        self,
        now_s: float,
        qber_alarm: float,
        clear_after_blocks: int,
        stalled_after_s: float,
        system: System = GYS,
    ) -> None:
        self.active: set[str] = set()
        self.qber = 0.0  # of the last sample
        self._qber_alarm = qber_alarm
        self._clear_after_blocks = clear_after_blocks
        self._stalled_after_s = stalled_after_s
        self._system = system
        self._heard_s = now_s
        self._good_blocks = 0
        self._dark_batches = 0
        self._sifted_bits = self._error_bits = 0

    def batch(self, now_s: float, batch: Batch) -> list[Alarm]:
        changes = self._heard(now_s)
        if batch.clicks <= dark_clicks_limit(self._system, batch.pulses):
            self._dark_batches += 1
            self._sifted_bits = self._error_bits = 0  # dark counts say nothing about an eavesdropper
            return changes + (self._set(NO_LIGHT, True) if self._dark_batches >= DARK_BATCHES else [])
        self._dark_batches = 0
        changes += self._set(NO_LIGHT, False)
        self._sifted_bits += batch.sifted_bits
        self._error_bits += batch.error_bits
        if self._sifted_bits >= SMALLEST_SAMPLE_BITS:
            self.qber = self._error_bits / self._sifted_bits
            self._sifted_bits = self._error_bits = 0
            if self.qber > self._qber_alarm:
                self._good_blocks = 0
                changes += self._set(QBER, True)
        return changes

    def block(self, now_s: float, qber: float) -> tuple[bool, list[Alarm]]:
        """Whether a new block may be delivered, and what changed."""
        changes = self._heard(now_s)
        if qber > self._qber_alarm:
            self._good_blocks = 0
            return False, changes + self._set(QBER, True)
        self._good_blocks += 1
        if self._good_blocks >= self._clear_after_blocks:
            changes += self._set(QBER, False)
        return True, changes

    def tick(self, now_s: float) -> list[Alarm]:
        return self._set(STALLED, True) if now_s >= self.deadline_s() else []

    def deadline_s(self) -> float:
        """When `tick` has something to say, unless something is heard before."""
        return self._heard_s + self._stalled_after_s

    def _heard(self, now_s: float) -> list[Alarm]:
        self._heard_s = now_s
        return self._set(STALLED, False)

    def _set(self, cause: str, on: bool) -> list[Alarm]:
        if on == (cause in self.active):
            return []
        self.active ^= {cause}
        return [Alarm(cause, on, self.qber)]
