"""Memory and descriptors of every unit, from when it has warmed up on; and units that end without being told to.

Memory is what a process has of its own and on the heap (RssAnon), from /proc/PID/status: unlike PSS it does not change
when another process, forked from the same parent, ends. A leak is a least value in the last third of the samples that
lies above the greatest of the first third by more than noise. A process that lived for less than two minutes after it
had warmed up is not judged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .lab import Lab

MEMORY_NOISE_KIB, MEMORY_NOISE_SHARE = 3072, 0.10
DESCRIPTOR_NOISE = 8
LEAST_SAMPLES, LEAST_S = 9, 120.0
Unit = tuple[str, str]


@dataclass
class Life:
    """Of one process: samples since it had warmed up."""

    pid: int
    since_s: float
    last_s: float = 0.0
    memory_kib: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


class Health:
    """`judged`: how many processes; `most_kib`, `most_descriptors`: the greatest growth among them."""

    def __init__(self, lab: Lab, warm_up_s: float) -> None:
        self.leaks: list[str] = []
        self.ended: list[str] = []
        self.judged = self.most_kib = self.most_descriptors = 0
        self._lab, self._warm_up_s = lab, warm_up_s
        self._lives: dict[Unit, Life] = {}
        self._silent: set[Unit] = set()
        self._told: set[Unit] = set()

    def sample(self, now_s: float, dead: set[Unit]) -> None:
        """`dead`: units that need not run."""
        silent = set()
        for node, units in self._lab.keeper("status")["nodes"].items():
            for unit, state in units.items():
                if state["pid"] is not None:
                    self._sample(now_s, (node, unit), state["pid"])
                elif (node, unit) not in dead:
                    silent.add((node, unit))
        for node, unit in sorted(silent & self._silent):  # twice, since `dead` is older than the keeper's answer
            if (node, unit) not in self._told:
                self._told.add((node, unit))
                self.ended.append(f"{node} {unit} ended unasked: {self._lab.last_words(node, unit)}")
        self._silent = silent

    def _sample(self, now_s: float, unit: Unit, pid: int) -> None:
        life = self._lives.get(unit)
        if life is None or life.pid != pid:
            self._judge(unit)
            life = self._lives[unit] = Life(pid, now_s)
        if now_s - life.since_s < self._warm_up_s:
            return
        if found := of_process(pid):
            life.last_s = now_s
            life.memory_kib.append(found[0])
            life.descriptors.append(found[1])

    def judge(self) -> None:
        """At the end, of all that live."""
        for unit in list(self._lives):
            self._judge(unit)

    def _judge(self, unit: Unit) -> None:
        life = self._lives.pop(unit, None)
        if life is None or len(life.memory_kib) < LEAST_SAMPLES:
            return
        if life.last_s - life.since_s - self._warm_up_s < LEAST_S:
            return
        self.judged += 1
        name = " ".join(unit)
        kib, descriptors = _growth(life.memory_kib), _growth(life.descriptors)
        self.most_kib, self.most_descriptors = max(self.most_kib, kib), max(self.most_descriptors, descriptors)
        if kib > MEMORY_NOISE_KIB + MEMORY_NOISE_SHARE * life.memory_kib[0]:
            self.leaks.append(f"{name}: memory {_thirds(life.memory_kib)} KiB")
        if descriptors > DESCRIPTOR_NOISE:
            self.leaks.append(f"{name}: descriptors {_thirds(life.descriptors)}")


def of_process(pid: int) -> tuple[int, int] | None:
    """KiB of memory and descriptors; None when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return None
    found = re.search(r"^RssAnon:\s*(\d+) kB", text, re.M)
    return (int(found[1]), descriptors) if found else None


def _growth(samples: list[int]) -> int:
    third = len(samples) // 3
    return min(samples[-third:]) - max(samples[:third]) if third else 0


def _thirds(samples: list[int]) -> str:
    return " -> ".join(str(samples[at]) for at in (0, len(samples) // 2, -1))
