"""A link's cost, derived from its key rate and stored key, damped (paper appendix A: "such approaches must be
considered carefully as they might cause heavy overhead and instability as well").

What a link can carry for the next hour is its key rate and its store spread over that hour; the cost is REFERENCE over
that, as OSPF has it for bandwidth: 1 at 10 Mbit/s, 1000 at 10 kbit/s. Each change is flooded through the area and paid
for with key at every link, so a new cost is told only when it is beyond half as much again, either way, for a while
without a break; and not twice within the interval. Links without any key rate cost the most that is still transit.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_BPS = 10_000_000
HORIZON_S = 3600.0
DEAREST = 65534  # 65535 is MaxLinkMetric: not for transit
BAND = 1.5
SETTLE_S = 30.0
INTERVAL_S = 120.0


def cost_of(rate_bps: float, stored_bytes: float) -> int:
    """Without damping. Rates are of key, in bit/s."""
    carried_bps = max(rate_bps, 0.0) + 8 * max(stored_bytes, 0.0) / HORIZON_S
    if carried_bps * DEAREST <= REFERENCE_BPS:
        return DEAREST
    return max(1, round(REFERENCE_BPS / carried_bps))


@dataclass
class DerivedCost:
    """`advertised` is what OSPF has been told. `update` with each measurement, in seconds of a monotonic clock."""

    advertised: int
    changed_s: float = float("-inf")
    outside_since_s: float | None = None

    def update(self, now_s: float, rate_bps: float, stored_bytes: float) -> bool:
        """True when `advertised` changed and must be told."""
        wanted = cost_of(rate_bps, stored_bytes)
        if self.advertised / BAND <= wanted <= self.advertised * BAND:
            self.outside_since_s = None
            return False
        if self.outside_since_s is None:
            self.outside_since_s = now_s
        if now_s - self.outside_since_s < SETTLE_S or now_s - self.changed_s < INTERVAL_S:
            return False
        self.advertised, self.changed_s, self.outside_since_s = wanted, now_s, None
        return True
