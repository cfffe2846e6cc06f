"""Random faults, each with its end: what is cut is mended, what is killed is started again."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from random import Random

from appliance.services.control import NoAnswer, Refused

from .lab import Lab, LinkEnd

UNITS = ("dataplane", "keys", "routing", "frr")
LEAST_RATE_SHARE = 0.05
FLAPS = 6
Action = Callable[[], None]


class Events(threading.Thread):
    """Until it is stopped; `calm` then undoes all that is still on. `dead`: units that are down because of us."""

    def __init__(self, lab: Lab, seed: int, every_s: float) -> None:
        super().__init__(daemon=True)
        self.counts: Counter[str] = Counter()
        self.on: dict[str, str] = {}  # link or node: what happens to it
        self.dead: set[tuple[str, str]] = set()
        self.failure = ""
        self._lab, self._random, self._every_s = lab, Random(seed), every_s
        self._undo: list[tuple[float, int, str, Action]] = []
        self._order = itertools.count()
        self._stopping = threading.Event()
        self._kinds: list[tuple[int, Callable[[], None]]] = [
            (4, self._cut),
            (3, self._silence),
            (2, self._tap),
            (3, self._starve),
            (2, self._flap),
            (5, self._kill_unit),
            (2, self._restart_unit),
            (2, self._kill_daemon),
            (2, self._kill_node),
        ]

    def run(self) -> None:
        try:
            next_s = time.monotonic() + self._every_s
            while not self._stopping.wait(0.1):
                self._undo_until(time.monotonic())
                if time.monotonic() > next_s:
                    next_s = time.monotonic() + self._random.uniform(0.3, 1.7) * self._every_s
                    weights = [weight for weight, _ in self._kinds]
                    self._random.choices([event for _, event in self._kinds], weights)[0]()
        except Exception as error:  # the thread's last word; the run asks for it
            self.failure = f"the events ended: {error!r}"

    def calm(self) -> None:
        """No more events; everything is mended when this returns."""
        self._stopping.set()
        self.join()
        self._undo_until(float("inf"))

    def _undo_until(self, now_s: float) -> None:
        while self._undo and self._undo[0][0] <= now_s:
            _, _, what, undo = heapq.heappop(self._undo)
            undo()
            self.on.pop(what, None)

    def _begin(self, what: str, kind: str, shortest_s: float, longest_s: float, undo: Action) -> None:
        self.counts[kind] += 1
        self.on[what] = kind
        due_s = time.monotonic() + self._random.uniform(shortest_s, longest_s)
        heapq.heappush(self._undo, (due_s, next(self._order), what, undo))

    # --- links -------------------------------------------------------------------------------------------------------

    def _free_link(self) -> str | None:
        """One to which nothing happens; not more than a third of all at a time."""
        free = [link for link in self._lab.links if link not in self.on]
        return self._random.choice(free) if 3 * len(free) > 2 * len(self._lab.links) else None

    def _cut(self) -> None:
        if link := self._free_link():
            what = self._random.choice(("wire", "wire", "fibre", "cable"))
            self._lab.keeper("cut", link=link, what=what)
            self._begin(link, f"cut {what}", 1, 25, lambda: self._mend(link))

    def _mend(self, link: str) -> None:
        self._lab.keeper("mend", link=link)

    def _silence(self) -> None:
        """One direction of a link, or both."""
        if link := self._free_link():
            ends = [end for end in self._lab.ends if end.link == link]
            chosen = self._random.choice((ends, ends[:1], ends[1:]))
            self._lose(chosen, True)
            self._begin(link, "silent loss", 1, 20, lambda: self._lose(chosen, False))

    def _lose(self, ends: list[LinkEnd], lost: bool) -> None:
        for end in ends:
            self._lab.lose(end, lost)

    def _tap(self) -> None:
        if link := self._free_link():
            self._lab.keeper("tap", link=link, fraction=1.0)
            self._begin(link, "tap", 4, 20, lambda: self._mend(link))

    def _starve(self) -> None:
        """The key rate falls to almost nothing."""
        if link := self._free_link():
            end = next(end for end in self._lab.ends if end.link == link)
            full = 100_000
            with contextlib.suppress(Refused):
                self._lab.keeper("rate", link=link, rate_bps=full * LEAST_RATE_SHARE)
                self._begin(end.link, "starve", 10, 60, lambda: self._restore(link, full))

    def _restore(self, link: str, rate_bps: float) -> None:
        self._lab.keeper("rate", link=link, rate_bps=rate_bps)

    def _flap(self) -> None:
        if link := self._free_link():
            for _ in range(FLAPS):
                self._lab.keeper("cut", link=link, what="wire")
                time.sleep(self._random.uniform(0.05, 0.4))
                self._lab.keeper("mend", link=link)
                time.sleep(self._random.uniform(0.05, 0.4))
            self.counts["flap"] += 1

    # --- units -------------------------------------------------------------------------------------------------------

    def _free_node(self) -> str | None:
        free = [node for node in self._lab.nodes if node not in self.on]
        return self._random.choice(free) if 4 * len(free) > 3 * len(self._lab.nodes) else None

    def _units(self, node: str) -> list[str]:
        devices = [f"device-{d.name}" for link in self._lab.configurations[node].links for d in link.devices]
        return [*UNITS, *devices]

    def _kill(self, node: str, units: list[str], kind: str) -> None:
        self.dead |= {(node, unit) for unit in units}
        self._lab.keeper("kill", node=node, units=units)
        self._begin(node, kind, 0.2, 10, lambda: self._start(node, units))

    def _start(self, node: str, units: list[str]) -> None:
        self._lab.keeper("restart", node=node, units=units)
        self.dead -= {(node, unit) for unit in units}

    def _kill_unit(self) -> None:
        if node := self._free_node():
            unit = self._random.choice(self._units(node))
            self._kill(node, [unit], f"kill {unit.partition('-')[0]}")

    def _restart_unit(self) -> None:
        if node := self._free_node():
            unit = self._random.choice(self._units(node))
            self.dead.add((node, unit))
            self._start(node, [unit])
            self.counts[f"restart {unit.partition('-')[0]}"] += 1

    def _kill_daemon(self) -> None:
        """FRR's zebra or ospfd, which its unit starts again."""
        if node := self._free_node():
            program = self._random.choice(("zebra", "ospfd"))
            with contextlib.suppress(KeyError, ProcessLookupError):
                os.kill(self._lab.daemons(node)[program], signal.SIGKILL)
                self.counts[f"kill {program}"] += 1

    def _kill_node(self) -> None:
        if node := self._free_node():
            self._kill(node, self._units(node), "node dies")


__all__ = ["Events", "NoAnswer"]
