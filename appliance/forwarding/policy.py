"""What forwarding goes by, beside the table."""

from __future__ import annotations

from dataclasses import dataclass

WORD_BITS = 64
DIRECTIONS = 2  # share what the devices make


@dataclass(frozen=True, slots=True)
class LinkPolicy:
    """Of one link: the filter's w and L_cr (equation 1), packets in its queue from which on others are preferred."""

    window: float
    critical: float
    queue_mark_packets: int
    low_mark_bytes: int
    store_s: float  # the store above the low mark counts as key rate, spread over so long

    def supply_words_s(self, key_rate_bps: float, available_bytes: int) -> float:
        """What the link can carry, in key words a second and direction.

        ``key_rate_bps``: of the devices, both directions; ``available_bytes``: stored for this direction."""
        spare_bytes = max(available_bytes - self.low_mark_bytes, 0)
        return key_rate_bps / WORD_BITS / DIRECTIONS + 8 * spare_bytes / WORD_BITS / self.store_s


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """Of the node. ``default_link``: its name, preferred when all ways are overloaded."""

    drop_overload: bool
    default_link: str | None
    reports_per_s: float
    reports_at_once: int
