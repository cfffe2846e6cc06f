"""What goes wrong in a simulated world, and what a run did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from appliance.q3p.linklog import KEEP_RECORDS
from appliance.q3p.records import Close, Epoch, Open, Store, Void

RECORD_NAMES = {kind.kind: kind.__name__.upper() for kind in (Store, Open, Close, Epoch, Void)}


@dataclass(frozen=True)
class Faults:
    """Probabilities for each packet, crash, block or second, and where crashes strike."""

    # for each packet
    loss: float = 0.3
    duplication: float = 0.1
    reordering: float = 0.2
    corruption: float = 0.05
    replay: float = 0.02
    # for each life of an end: strike within its first effects, or while chunks are open, else anywhere
    strike_early: float = 0.4
    strike_open: float = 0.3
    effects_between_crashes: int = 60  # mean; 0: none
    # for each crash
    rollback: float = 0.05
    cut: float = 0.05  # nothing gets through for a while
    longest_cut_s: float = 3
    # for each time that an end has something to seal: it is sealed later, when more may wait
    late_sealing: float = 0.05
    latest_sealing_s: float = 0.3
    # for each second: all packets of one direction are held back for a while and delivered then
    withhold: float = 0.05
    # for each device block
    disk_failure: float = 0.02  # the next write fails
    disk_full: float = 0.005  # all writes fail for a while
    mismatch: float = 0.02  # the ends' bytes differ
    lost_block: float = 0.02  # one end never gets it
    again: float = 0.02  # an end gets it a second time
    # for each rollback: the devices count anew, so that other blocks come under names that were used
    recount: float = 0.5
    # no faults, but what makes more of them
    long_keys: float = 0.2  # of session keys: they use chunks up
    keep_records: int = KEEP_RECORDS  # the log is compacted to so many


CALM = Faults(
    loss=0, duplication=0, reordering=0, corruption=0, replay=0, effects_between_crashes=0, rollback=0, cut=0,
    late_sealing=0, withhold=0, disk_failure=0, disk_full=0, mismatch=0, lost_block=0, again=0, recount=0,
)  # fmt: skip

# Seeds take these in turn: short lives full of faults; longer ones in which chunks are opened, spent and closed; a
# clean channel, so that crashes alone decide; an adversary who holds back, replays and rolls back; logs compacted all
# the time; and rollbacks of ends whose hello hardly began, with what they sent released afterwards.
PROFILES = (
    Faults(),
    Faults(strike_early=0.1, strike_open=0.8, effects_between_crashes=80, loss=0.1, rollback=0.02, long_keys=0.7),
    Faults(
        loss=0.0, duplication=0.0, reordering=0.0, corruption=0.0, replay=0.0, withhold=0.0,
        strike_open=0.5, effects_between_crashes=40,
    ),
    Faults(replay=0.3, loss=0.2, rollback=0.15, cut=0.1, longest_cut_s=15, withhold=0.3),
    Faults(keep_records=40, strike_open=0.5, effects_between_crashes=50, loss=0.1, rollback=0.1),
    Faults(rollback=0.5, withhold=0.7, strike_early=0.7, strike_open=0.1, loss=0.1, corruption=0.02),
)  # fmt: skip


@dataclass
class Figures:
    """What a run did."""

    crashes: int = 0
    crashes_with_open_chunks: int = 0
    rollbacks: int = 0
    withheld_packets: int = 0
    replayed_packets: int = 0
    disk_failures: int = 0
    full_disks: int = 0
    keys_sent: int = 0
    keys_delivered: int = 0
    sessions: int = 0
    secrets: int = 0
    packets: int = 0
    key_words_used: int = 0
    records: Counter[str] = field(default_factory=Counter)
    trace: Any = None  # SHA-256 of everything that happened, in order

    def add(self, other: Figures) -> None:
        """Sum up several runs."""
        for name in self.__dataclass_fields__:
            if name == "records":
                self.records.update(other.records)
            elif name != "trace":
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def __str__(self) -> str:
        counts = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("records", "trace")}
        return ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in (counts | dict(self.records)).items())
