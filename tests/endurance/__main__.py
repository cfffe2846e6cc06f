"""The run: see tests/endurance/__init__.py."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.live import Live
from rich.text import Text

from appliance.services.control import NoAnswer

from .events import Events
from .health import Health
from .lab import Lab
from .traffic import Pair
from .wire import Wire

CALM_S = 240.0  # everything is back by then, also on a busy machine
CALM_KEYS = 5  # of each pair
LINE_EVERY_S = 10.0  # where nobody watches live
MOST_HOPS_FACTOR = (
    2  # a packet that circles for a moment, while routes change, goes no further than this times all nodes
)
FIRST_TTL = 64


class Watch:
    """All parts of a run, and what they found."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        dice = Random(options.seed)
        self.lab, self.options = lab, options
        self.wire = Wire(list(lab.taps()))
        self.pairs = [
            Pair(lab, number, dice.randrange(2**32)) for number in range(options.pairs or max(2, len(lab.nodes) // 2))
        ]
        self.events = Events(lab, dice.randrange(2**32), options.every)
        self.health = Health(lab, min(120.0, 10 * options.minutes))
        self.began_s = time.monotonic()
        self.late = ""

    def run(self) -> None:
        self.wire.start()
        for pair in self.pairs:
            pair.start()
        self.events.start()
        with Live(console=Console(stderr=True), auto_refresh=False) as live:
            self._watch(live, self.began_s + 60 * self.options.minutes)
            self.events.calm()
            self._calm(live)
        for pair in self.pairs:
            pair.stop()
        for pair in self.pairs:
            pair.join(60)
        self.wire.stop()
        self.health.judge()

    def _watch(self, live: Live, end_s: float) -> None:
        sample_s, tell_s = min(15.0, self.options.minutes), 0.0
        next_sample_s = time.monotonic()
        while (now_s := time.monotonic()) < end_s and not self._stopped():
            if now_s >= next_sample_s:
                self.health.sample(now_s, self.events.dead)
                next_sample_s = now_s + sample_s
            if live.is_started and live.console.is_terminal:
                live.update(Text(self.line(end_s - now_s)), refresh=True)
            elif now_s >= tell_s:
                print(self.line(end_s - now_s), file=sys.stderr, flush=True)
                tell_s = now_s + LINE_EVERY_S
            time.sleep(0.5)

    def _stopped(self) -> str:
        parts = [self.wire.failure, self.events.failure, *(pair.failure for pair in self.pairs)]
        return next(filter(None, parts), "")

    def _calm(self, live: Live) -> None:
        """Everything comes back by itself: links, routes, keys between all pairs."""
        began_s = time.monotonic()
        wanted = [pair.keys + CALM_KEYS for pair in self.pairs]
        while not self._stopped():
            self.late = self._lacking(wanted)
            left_s = began_s + CALM_S - time.monotonic()
            if not self.late or left_s < 0:
                return
            live.console.is_terminal and live.update(Text(f"calm: {self.late}"), refresh=True)
            time.sleep(0.5)

    def _lacking(self, wanted: list[int]) -> str:
        for name in self.lab.nodes:
            try:
                links = self.lab.ask(name, "dataplane", "status")["links"]
                ways = self.lab.ask(name, "dataplane", "routes")["routes"]
            except NoAnswer as silent:
                return f"{name} is silent: {silent}"
            for link in links:
                if not link["usable"]:
                    return f"{name}: link {link['name']} is {link['state']}, {link['store_state']}: {link['cause']}"
            if len(ways) < len(self.lab.nodes):
                return f"{name} has {len(ways)} routes"
        for pair, keys in zip(self.pairs, wanted, strict=True):
            if pair.keys < keys:
                return f"no keys between {' and '.join(pair.between)}: {pair.errors.most_common(2)}"
        return ""

    # --- what is told ------------------------------------------------------------------------------------------------

    @property
    def keys(self) -> int:
        return sum(pair.keys for pair in self.pairs)

    def line(self, left_s: float) -> str:
        wire = self.wire.figures()
        on = ", ".join(f"{what} {kind}" for what, kind in sorted(self.events.on.items())) or "nothing"
        passed_s = time.monotonic() - self.began_s
        return (
            f"{left_s / 60:5.1f} min left; {sum(self.events.counts.values())} events, now {on}; "
            f"{self.keys:,} keys ({self.keys / passed_s:.0f}/s), {sum(pair.wrong + pair.twice for pair in self.pairs)} "
            f"wrong; {wire['packets']:,} packets, {wire['words']:,} words of key, {wire['violations']} violations"
        )

    def faults(self) -> list[str]:
        """Empty when all is well."""
        said = [f"{path.name} says Traceback" for path in self.lab.logs() if "Traceback" in path.read_text()]
        wrong, twice = (sum(getattr(pair, what) for pair in self.pairs) for what in ("wrong", "twice"))
        hops, most = FIRST_TTL - self.wire.least_ttl(), MOST_HOPS_FACTOR * len(self.lab.nodes)
        found = [self._stopped(), *self.wire.violations(), *self.health.leaks, *self.health.ended, *said]
        found += [f"{wrong} keys differ between the ends"] if wrong else []
        found += [f"{twice} keys came twice"] if twice else []
        found += [f"after {CALM_S:.0f} s of calm: {self.late}"] if self.late else []
        found += [f"a packet went over {hops} nodes"] if hops > most else []
        found += ["no key at all"] if not self.keys else []
        return list(filter(None, found))

    def summary(self) -> str:
        wire = self.wire.figures()
        errors: Counter[str] = sum((pair.errors for pair in self.pairs), Counter())
        health = self.health
        lines = [
            f"events      {', '.join(f'{kind} {count}' for kind, count in sorted(self.events.counts.items()))}",
            f"keys        {self.keys:,} compared, over {sum(pair.connections for pair in self.pairs):,} connections; "
            f"{sum(pair.broken for pair in self.pairs)} errors",
            f"errors      {'; '.join(f'{count} x {words}' for words, count in errors.most_common(12)) or 'none'}",
            f"wire        {wire['packets']:,} packets, {wire['resent']:,} of them resent, {wire['words']:,} words of "
            f"key; {wire['sessions']} sessions, {wire['records']:,} log records; {wire['unseen']} packets unseen, "
            f"{wire['unplaced']} not placed, at most {FIRST_TTL - self.wire.least_ttl()} hops",
            f"growth      at most {health.most_kib} KiB and {health.most_descriptors} descriptors, among "
            f"{health.judged} units that lived long enough",
        ]
        faults = self.faults()
        lines += [f"FAULT       {fault}" for fault in faults]
        lines += ["result      well" if not faults else f"result      {len(faults)} faults"]
        return "\n".join(lines)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    about, raw = sys.modules[__package__].__doc__, argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=about, formatter_class=raw)
    parser.add_argument("--nodes", type=int, default=20, help="nodes of the network, 3 at least")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, default=1, help="of the network and its events")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two events, on the average")
    parser.add_argument(
        "--pairs", type=int, default=0, help="pairs of applications at a time; half the nodes by default"
    )
    options = parser.parse_args(words)
    if options.nodes < 3 or options.minutes <= 0 or options.every <= 0:
        parser.error("3 nodes at least, and more than no time")
    return options


def endure(options: argparse.Namespace) -> list[str]:
    """One run; what was wrong."""
    with TemporaryDirectory() as folder, Lab(Path(folder), options.nodes, options.seed) as lab:
        watch = Watch(lab, options)
        watch.run()
        print(watch.summary(), flush=True)
        return watch.faults()


def main() -> int:
    options = arguments()
    if os.geteuid() != 0:
        print("the endurance run needs root: it makes network namespaces", file=sys.stderr)
        return 2
    print(f"load at the start: {' '.join(f'{load:.1f}' for load in os.getloadavg())}", file=sys.stderr)
    return 1 if endure(options) else 0


if __name__ == "__main__":
    sys.exit(main())
