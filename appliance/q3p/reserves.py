"""Reserves: who may still spend when key runs short, with hysteresis (design section 4).

Below the first mark only control spends and the link carries no traffic; below the second only STORE batches, which
bring more than they cost. Traffic comes back at the high mark, so that a link at the edge does not flap.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

PRIORITY_STORE = 7
PRIORITY_CONTROL = 6
PRIORITY_PING = 5
ALL, CONTROL_ONLY, STORE_ONLY = 0, PRIORITY_CONTROL, PRIORITY_STORE

# What a STORE batch costs, in bytes: tags of OFFER, STORE record and REPORT, and a pad for each fingerprint.
STORE_TAGS_BYTES = 3 * 16
FINGERPRINT_BYTES = 16
STORE_COST_SHARE = 0.02


class StoreState(Enum):
    """The store's state, for people."""

    CHARGING = "charging"
    READY = "ready"
    LOW = "low"
    EXHAUSTED = "exhausted"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Marks:
    """Levels of key available to the out direction, in bytes: store < low < high."""

    store_bytes: int = 1024
    low_bytes: int = 4096
    high_bytes: int = 16384

    def __post_init__(self) -> None:
        if not 0 <= self.store_bytes < self.low_bytes < self.high_bytes:
            raise ValueError(f"marks must rise: store < low < high (they are {self})")


class Reserves:
    """Follows the level of one direction."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.state = StoreState.CHARGING
        self.traffic = False
        self.allowed_priority = CONTROL_ONLY

    def update(self, available_bytes: int) -> None:
        marks = self.marks
        if available_bytes >= marks.high_bytes:
            self.traffic, self.state = True, StoreState.READY
        elif available_bytes < marks.low_bytes:
            if self.traffic or available_bytes < marks.store_bytes:
                self.state = StoreState.EXHAUSTED
            self.traffic = False
        elif not self.traffic:
            self.state = StoreState.CHARGING
        elif available_bytes < (marks.low_bytes + marks.high_bytes) // 2:
            self.state = StoreState.LOW
        if available_bytes < marks.store_bytes:
            self.allowed_priority = STORE_ONLY
        else:
            self.allowed_priority = ALL if self.traffic else CONTROL_ONLY


def batch_minimum_bytes(blocks: int) -> int:
    """The smallest batch of this many blocks whose STORE costs at most its share of what it confirms."""
    return int((STORE_TAGS_BYTES + FINGERPRINT_BYTES * blocks) / STORE_COST_SHARE)
