"""The demonstration, step by step. What is not as it should be is told on the screen and makes the exit status 1."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from appliance.cli.output import percent, rate, size
from appliance.client import Client
from appliance.demo import report, tablei
from appliance.demo.account import between, pads, read_log, spent
from appliance.demo.backup import Backup, backing_up
from appliance.demo.report import Phase, duration
from appliance.demo.screen import Links, Screen
from appliance.demo.square import Square, hosts
from appliance.demo.traffic import Both, Outcome, Sessions
from appliance.lab import Run, design

BY_QBB2, BY_QBB3, BEYOND_QBB2, BEYOND_QBB3 = "qbb1-qbb2", "qbb1-qbb3", "qbb2-qbb4", "qbb3-qbb4"
N1, N4 = "1.1.0.0/30", "1.1.0.12/30"  # the networks of QBB1 and QBB4
TO_QBB4, TO_QBB1 = [BY_QBB3, BY_QBB2], [BEYOND_QBB2]  # ways when all is well; QBB3 is no loop-free alternate of QBB4
STOCK = 32
DURING_FAULT = 40  # sessions
TAPPED = 0.5
BACKUP_SHARE = 0.8  # of what the link carries when the backup begins
FEEBLE_BPS, USUAL_BPS = 2_000, 200_000
MEASURED_KEYS = 40  # on a busy machine the backup may be slower than it wants
MOVED_BYTES = 8 << 10
DRAIN_LIMIT_S = 240.0
WATCHED_S, WATCHES = 3.0, 12
ACROSS, FAR_NAME = 10, "archive"  # keys to an application in another area, and its name
SILENCE_S = float(str(design.SETTINGS["dead_after_s"]))


class Story:
    """`sessions`: of each kind."""

    def __init__(self, run: Run, square: Square, screen: Screen, sessions: int) -> None:
        self.square, self.screen, self._count = square, screen, sessions
        self._near, self._far = hosts(run, square)  # beside QBB1 and QBB4
        self._both = Both(self._near, self._far, run.directory)
        self._phases: list[Phase] = []
        self._disturbed: dict[str, Outcome] = {}  # sessions during faults
        self._other_keys = 0

    def play(self) -> None:
        """Raises AssertionError when something does not happen at all."""
        self.table()
        with self.screen.showing(Links(self.square)):
            self.deliver()
            self.across()
            self.cut()
            self.tap()
            self.drain()
            self.kill()
        self.report()

    def report(self) -> None:
        outcomes = {phase.title: phase.outcome for phase in self._phases} | self._disturbed
        logs = [read_log(self.square.log(self.square.ends[link][0], link)) for link in self.square.links]
        for table in (
            report.spending(self._phases),
            report.latencies(outcomes),
            report.balance(outcomes.values(), self._other_keys, logs),
        ):
            self.screen.show(table)
        self.screen.console.print()

    # Steps -----------------------------------------------------------------------------------------------------------

    def table(self) -> None:
        screen = self.screen
        screen.head("Routes: QBB1's extended table, out of OSPF's database, beside the paper's Table I")
        screen.wait(self._routed, "the routes of QBB1 and QBB4")
        routes = self.square.routes("qbb1")
        screen.show(tablei.table(routes))
        screen.console.print()
        screen.say("> is the way taken. The other is ready for a fault and for load: it cannot loop.")
        screen.say("+1 is the step into a node's own network, which OSPF counts and the paper does not.")
        wrong = list(tablei.wrong(routes))
        screen.check(not wrong, "All costs are those of the paper.", "; ".join(wrong))

    def deliver(self) -> None:
        screen = self.screen
        screen.head(f"Keys: {2 * self._count} sessions of TLS 1.3 between hosts beside QBB1 and QBB4")
        self._both.start()
        screen.wait(self._named, "the servers' names at the other end of the network")
        screen.say(
            "A server on each side registers its name at its node, and is found by it from the other. Each session has "
            "a key of its own, which both hosts get from their own node; there are no certificates."
        )
        screen.say(
            "QBB1 sends keys by QBB3 (cost 9), QBB4 by QBB2 (cost 6). A relay changes the pad of one link for that of "
            "the next in one step: it never holds a key in the clear."
        )
        self._phases = [self._phase("key by key", 0), self._phase("from stock", STOCK)]

    def across(self) -> None:
        """Beyond the border of the area: by QBB3, QBB4 and the backbone."""
        with Client(self._near.pfkey) as near, Client(self.square.pfkey("area2")) as far:
            far.register(6200, "203.0.113.2", name=FAR_NAME)
            self.screen.wait(lambda: FAR_NAME in self.square.names("qbb1"), f"{FAR_NAME}, known at QBB1")
            connection = near.connect(name=FAR_NAME)
            for _ in range(ACROSS):
                with connection.key() as key, far.fetch(key.id) as fetched:
                    self._other_keys += key.secret == fetched.secret
        words = f'{ACROSS} keys to "{FAR_NAME}" in Area 2, over two relays and the border: equal at both ends.'
        self.screen.check(self._other_keys == ACROSS, words, f"{self._other_keys} of {ACROSS} keys are equal in Area 2")

    def cut(self) -> None:
        screen = self.screen
        screen.head("Fault 1: fibre and cable of QBB1-QBB3 are cut while sessions go on")
        sessions = self._going()
        self.square.do("cut", link=BY_QBB3)
        took = screen.wait(lambda: not self.square.usable(BY_QBB3), "QBB1-QBB3 goes down")
        cause = self.square.link("qbb1", BY_QBB3)["cause"]
        screen.say(f"Down {duration(took)} later: {cause}. QBB1 has the way by QBB2 ready.")
        self._survived("cut", sessions, "Keys go on by QBB2.")
        self.square.do("mend", link=BY_QBB3)
        self._back("Mended")

    def tap(self) -> None:
        screen = self.screen
        screen.head("Fault 2: somebody taps the fibre QBB1-QBB2 (reads half of the light, sends it on)")
        sessions = self._going()
        self.square.do("tap", link=BY_QBB2, fraction=TAPPED)
        screen.wait(lambda: not self.square.usable(BY_QBB2), "QBB1-QBB2 goes down")
        took = screen.wait(lambda: self.square.ways("qbb4", N1) == [BEYOND_QBB3], "QBB4 goes round")
        errors = max(device["qber"] or 0.0 for device in self.square.link("qbb1", BY_QBB2)["devices"])
        screen.say(
            f"Alarm: {percent(errors)} of the bits are wrong; 3.3 % is usual, 11 % the limit. That key is thrown away, "
            f"the link goes down, and OSPF has QBB4 go round after {duration(took)}."
        )
        self._survived("tapped", sessions, "Keys from QBB4 go on by QBB3.")
        self.square.do("mend", link=BY_QBB2)
        self._back("The tap is gone")

    def drain(self) -> None:
        screen = self.screen
        wanted = BACKUP_SHARE * self.square.link("qbb1", BY_QBB3)["carries_bps"] / 8
        screen.head(f"Load: a backup at QBB1 takes {size(wanted)}/s of key, and QBB1-QBB3 makes hardly any more")
        with backing_up(self._near, self._far, wanted) as backup:
            self._while(
                backup, lambda: self._load() > BACKUP_SHARE / 2 or backup.keys >= MEASURED_KEYS, "measured load"
            )
            self._tell_load("All of it goes by QBB3")
            self.square.do("rate", link=BY_QBB3, rate_bps=FEEBLE_BPS)
            before = self._pads()
            self._while(backup, lambda: (self._pads() - before)[BY_QBB2] > MOVED_BYTES, "load moves")
            self._tell_load("QBB1 begins to send by QBB2")
            before, loads = self._pads(), self._watch_load()
            moved = self._pads() - before
        self._judge(backup, moved, sum(loads) / len(loads))
        self.square.do("rate", link=BY_QBB3, rate_bps=USUAL_BPS)

    def kill(self) -> None:
        screen = self.screen
        screen.head("Fault 3: QBB3's data plane, which relays and holds its key stores, is killed (SIGKILL)")
        sessions = self._going()
        self.square.do("kill", node="qbb3", units=["dataplane"])
        self._survived(
            "relay killed",
            sessions,
            f"Its neighbours find it dead after {SILENCE_S:g} s of silence. Keys go on by QBB2.",
        )
        self.square.do("restart", node="qbb3", units=["dataplane"])
        self._back("Started again: what was open is given up, the rest of its key is there")

    # Parts of steps --------------------------------------------------------------------------------------------------

    def _routed(self) -> bool:
        """All is well: QBB1 sends to QBB4 by QBB3, QBB4 to QBB1 by QBB2, and all areas are known."""
        square = self.square
        ways = square.ways("qbb1", N4) == TO_QBB4 and square.ways("qbb4", N1) == TO_QBB1
        return ways and not list(tablei.wrong(square.routes("qbb1")))

    def _named(self) -> bool:
        """Does each side know the other's server?"""
        return self._both.names[1] in self.square.names("qbb1") and self._both.names[0] in self.square.names("qbb4")

    def _phase(self, title: str, prefetch: int) -> Phase:
        before, began = spent(self.square), time.monotonic()
        outcome = self._both.begin(self._count, prefetch=prefetch).outcome()
        took = time.monotonic() - began
        used = between(before, spent(self.square))
        kind = f"with a stock of {prefetch} keys at each end" if prefetch else "with a key fetched for each"
        self._whole(outcome, self._count, f"{self._count} sessions {kind}, in {took:.1f} s: keys and files equal.")
        return Phase(title, outcome, used)

    def _whole(self, outcome: Outcome, count: int, words: str) -> None:
        """All sessions came about, under equal keys and with equal files."""
        wrong = [f"{len(outcome.sessions)} of {count} sessions", *outcome.refusals[:2], *outcome.failures[:2]]
        self.screen.check(len(outcome.sessions) == count and not outcome.failed, words, "; ".join(wrong))

    def _going(self) -> Sessions:
        """Sessions one after the other from each side, some of which are done."""
        going = self._both.begin(DURING_FAULT, parallel=1)
        self.screen.wait(lambda: going.done() >= 3, "three sessions")
        return going

    def _survived(self, title: str, sessions: Sessions, words: str) -> None:
        outcome = self._disturbed[title] = sessions.outcome()
        slowest = duration(max(outcome.keys_s(), default=0.0))
        text = f"{words} All {sessions.count} sessions came about; the longest wait for a key was {slowest}."
        self._whole(outcome, sessions.count, text)

    def _back(self, words: str) -> None:
        links = self.screen.wait(self.square.ready, "all links are up")
        routes = self.screen.wait(self._routed, "the routes of before")
        self.screen.say(f"{words}. Up after {links:.1f} s, the routes of before {routes:.1f} s later.")

    def _while(self, backup: Backup, found: Callable[[], bool], what: str) -> None:
        """Until found, while the backup goes on."""
        self.screen.wait(lambda: found() or bool(backup.failures), what, DRAIN_LIMIT_S)

    def _load(self) -> float:
        return float(self.square.link("qbb1", BY_QBB3)["load"])

    def _watch_load(self) -> list[float]:
        loads = []
        for _ in range(WATCHES):
            time.sleep(WATCHED_S / WATCHES)
            loads.append(self._load())
        return loads

    def _pads(self) -> Counter[str]:
        return pads(self.square.plane("qbb1") or {}, (BY_QBB2, BY_QBB3))

    def _tell_load(self, words: str) -> None:
        link = self.square.link("qbb1", BY_QBB3)
        store, made = size(link["available_bytes"]), rate(link["key_rate_bps"])
        self.screen.say(f"{words}. QBB1-QBB3: load {percent(link['load'])}, {store} to send with, {made} more.")

    def _judge(self, backup: Backup, moved: Counter[str], load: float) -> None:
        link = self.square.link("qbb1", BY_QBB3)
        self._other_keys += backup.keys
        share, left = moved[BY_QBB2] / max(1, moved.total()), link["available_bytes"]
        right = backup.keys and not backup.failures and not backup.differing and link["usable"]
        self.screen.check(
            bool(right),
            f"In the next {WATCHED_S:.0f} s {percent(share)} went by QBB2. That keeps the load of QBB1-QBB3 near the "
            f"critical {percent(link['load_critical'])} ({percent(load)} on average); {size(left)} are left.",
            f"the backup: {backup.keys} keys, {backup.differing} differ, {backup.failures[:1]}; {link['cause']}",
        )
