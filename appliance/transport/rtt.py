"""The retransmission timer's value (RFC 6298), on times passed in.

Karn's rule is the caller's: only a segment sent once gives a sample, and until there is one the time-out
stays as far backed off as it is.
"""

from __future__ import annotations

INITIAL_S = 1.0  # RFC 6298 2.1
LOWEST_S = 0.25  # ours; RFC 6298 asks for 1 s, but a peer here delays its acknowledgement by 40 ms, not 500
HIGHEST_S = 8.0  # ours; low, so that an outage on the path is noticed to be over soon after
GRANULARITY_S = 0.01  # G


class RoundTrip:
    """Smoothed round-trip time, its variation, and the time-out they give."""

    __slots__ = ("_base_s", "_doublings", "smoothed_s", "variation_s")

    def __init__(self) -> None:
        self.smoothed_s: float | None = None
        self.variation_s = 0.0
        self._base_s = INITIAL_S
        self._doublings = 0

    @property
    def timeout_s(self) -> float:
        return min(HIGHEST_S, self._base_s * (1 << self._doublings))

    def sample(self, seconds: float) -> None:
        """Take one measurement (2.2, 2.3) and forget the doublings (5.7)."""
        if self.smoothed_s is None:
            self.smoothed_s = seconds
            self.variation_s = seconds / 2
        else:
            self.variation_s += (abs(self.smoothed_s - seconds) - self.variation_s) / 4
            self.smoothed_s += (seconds - self.smoothed_s) / 8
        spread = max(GRANULARITY_S, 4 * self.variation_s)
        self._base_s = min(HIGHEST_S, max(LOWEST_S, self.smoothed_s + spread))
        self._doublings = 0

    @property
    def backed_off(self) -> bool:
        return self._doublings > 0

    def forgive(self) -> None:
        """What made it back off is over."""
        self._doublings = 0

    def back_off(self) -> None:
        """The timer ran out (5.5)."""
        if self.timeout_s < HIGHEST_S:
            self._doublings += 1
