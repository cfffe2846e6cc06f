"""The demonstration, step by step. What is not as it should be is told on the screen and makes the exit status 1."""

from __future__ import annotations

import time

from appliance.cli.output import percent, rate, size
from appliance.demo import report
from appliance.demo.account import read_log, spent
from appliance.demo.report import Phase
from appliance.demo.screen import Screen, Stores
from appliance.demo.traffic import FILE_BYTES, Outcome, Traffic
from appliance.lab import DevicePlan, Network, NetworkPlan, Run, pair

LINK, TOLERANT, STRICT = "line", "fibre-1", "fibre-2"
HIGH_MARK_KIB = 64
SESSIONS = 50  # of each kind
TAPPED = 0.5


def plan() -> NetworkPlan:
    """Fibres of 10 km. A laboratory's light source at 2 MHz would need minutes to fill the store, so it is sped up."""
    fibres = (
        DevicePlan(TOLERANT, speed=40, settings={"on_alarm": "ignore"}),
        DevicePlan(STRICT, speed=40, settings={"on_alarm": "down"}),
    )
    marks = {"chunk_bytes": "16 KiB", "high_mark_bytes": f"{HIGH_MARK_KIB} KiB", "key_rate_bps": "200 kbit/s"}
    return pair(*fibres, settings=marks)


class Story:
    def __init__(self, run: Run, screen: Screen) -> None:
        screen.head("Two sites, paris and vienna. Each has a QKD node, in a network namespace of its own.")
        self.screen = screen
        self.network = Network(run, plan())
        self.paris, self.vienna = self.network.node("paris"), self.network.node("vienna")
        self.nodes = [self.paris, self.vienna]
        self.stores = Stores(self.nodes, 2 * HIGH_MARK_KIB << 10)
        self.traffic = Traffic(self.paris, self.vienna, run.directory)
        self.others: list[Outcome] = []

    def play(self) -> None:
        """Raises AssertionError when something does not happen at all."""
        screen = self.screen
        screen.say(
            "A network cable and two optical fibres of 10 km join them; the fibres and QKD devices are simulated."
        )
        self.network.start()
        screen.say("All units run: data plane, keys service and two QKD devices at each site.")
        with screen.showing(self.stores):
            self.charge()
            phases = self.deliver()
            self.crash()
            self.cut()
            self.tap_tolerant()
            self.tap_strict()
        log = read_log(self.paris, LINK)
        tables = [report.latencies(phases), report.spending(phases), report.balance(phases, self.others, log)]
        report.show(screen.console, tables)

    # Steps -----------------------------------------------------------------------------------------------------------

    def charge(self) -> None:
        self.screen.head("The key stores charge: equal key from the fibres, compared by fingerprints, at both sites.")
        took = self.screen.wait(self.stores, self.network.ready, "the stores charge", 60)
        link = self.paris.link()
        kept, speed = size(link["stored_bytes"]), rate(link["key_rate_bps"])
        self.screen.good(f"The link is up after {took:.1f} s: {kept} of key at each site, {speed} more.")

    def deliver(self) -> list[Phase]:
        self.traffic.start()
        self.screen.head("A TLS server registers at vienna's node, a client at paris's. Then 100 sessions of TLS 1.3:")
        self.screen.say(
            "  each under a key of its own, which both ends get from their own node (external PSK; no certificates,"
        )
        self.screen.say(f"  no resumption). Each carries {FILE_BYTES >> 10} KiB, compared by SHA-256.")
        return [self._phase("fetched singly", 0), self._phase("from stock", 32)]

    def _phase(self, title: str, prefetch: int) -> Phase:
        before, began = spent(self.nodes), time.monotonic()
        outcome = self.traffic.run(SESSIONS, prefetch=prefetch)
        used = spent(self.nodes)
        used.subtract(before)
        words = f"with a stock of {prefetch} keys" if prefetch else "with a fresh key fetched for each"
        self._judge(outcome, SESSIONS, f"{words}, in {time.monotonic() - began:.1f} s")
        return Phase(title, outcome, used)

    def _judge(self, outcome: Outcome, count: int, words: str) -> None:
        """All sessions came about, under equal keys and with equal files."""
        differing = self.traffic.differing(outcome)
        right = len(outcome.sessions) == count and not differing and not outcome.failures
        wrong = [f"{len(outcome.sessions)} of {count} sessions", *outcome.refusals[:2], *outcome.failures[:2]]
        wrong += [f"{len(differing)} differ"] if differing else []
        self.screen.check(right, f"  {count} sessions {words}: keys and files equal.", f"{words}: {'; '.join(wrong)}")

    def crash(self) -> None:
        screen = self.screen
        screen.head("The data plane in vienna, which holds its key store, is killed (SIGKILL) while sessions go on.")
        going = self.traffic.begin(30, parallel=2)
        screen.wait(self.stores, lambda: going.done() >= 5, "five sessions")
        self.vienna.units["dataplane"].kill()
        time.sleep(0.3)
        self.vienna.start("dataplane")  # as systemd would
        began = time.monotonic()
        self.vienna.wait_answers("dataplane")
        screen.wait(self.stores, self.network.ready, "the link comes back")
        screen.good(f"  Started again: the link is up after {time.monotonic() - began:.1f} s. Open key was given up.")
        outcome = going.outcome()
        self.others.append(outcome)
        waited = report.duration(max(outcome.keys_s(), default=0))
        refused = len(outcome.refusals)
        words = f"  {len(outcome.sessions)} sessions, the slowest waited {waited} for its key"
        right = len(outcome.sessions) + refused == 30 and not outcome.failures and not self.traffic.differing(outcome)
        screen.check(right, f"{words}; {refused} refused.", f"{words}; {outcome.failures[:2]} {outcome.refusals[:2]}")

    def cut(self) -> None:
        screen = self.screen
        screen.head("The network cable is cut.")
        self.network.cut(LINK)
        screen.wait(self.stores, lambda: not self.paris.usable(), "paris notices the cut")
        self._refused("the peer is silent")
        self.network.mend(LINK)
        took = screen.wait(self.stores, self.network.ready, "the link comes back")
        screen.good(f"  The cable is mended: the link is up after {took:.1f} s, with the key it had.")
        self._again()

    def tap_tolerant(self) -> None:
        screen = self.screen
        screen.head(
            f"Somebody taps {TOLERANT} (intercepts and resends half of the light). Its alarm is set to be ignored."
        )
        self.network.ask_fibre(TOLERANT, "tap", fraction=TAPPED)
        self._wait_alarm(TOLERANT)
        screen.check(
            self.network.ready(),
            f"  Its key is thrown away. The link stays up with the key of {STRICT}.",
            "the link went down though the alarm is to be ignored",
        )
        self.network.ask_fibre(TOLERANT, "tap", fraction=0)

    def tap_strict(self) -> None:
        screen = self.screen
        screen.head(f"Now {STRICT} is tapped. Its alarm is set to take the link down.")
        self.network.ask_fibre(STRICT, "tap", fraction=TAPPED)
        self._wait_alarm(STRICT)
        screen.wait(self.stores, lambda: not any(node.usable() for node in self.nodes), "both ends go down")
        self._refused(STRICT)
        self.network.ask_fibre(STRICT, "tap", fraction=0)
        took = screen.wait(self.stores, self.network.ready, "the link comes back")
        screen.good(f"  The tap is gone: the alarm clears after three good blocks, the link is up after {took:.1f} s.")
        self._again()

    # Parts of steps --------------------------------------------------------------------------------------------------

    def _wait_alarm(self, device: str) -> None:
        """At both sites."""

        def told() -> list[float]:
            found = [d for node in self.nodes for d in node.link()["devices"] if d["name"] == device]
            return [d["qber"] for d in found] if all(d["alarm"] for d in found) else []

        self.screen.wait(self.stores, lambda: bool(told()), f"alarm of {device}")
        wrong = percent(max(told(), default=0.0))
        self.screen.say(
            f"  Alarm at both sites: {wrong} of the bits on {device} are wrong; 3.3 % is usual, 11 % the limit."
        )

    def _refused(self, reason: str) -> None:
        """Asks for a key and is refused, with the reason."""
        outcome = self.traffic.run(1)
        self.others.append(outcome)
        told = (outcome.refusals or ["nothing"])[0]
        self.screen.check(
            len(outcome.refusals) == 1 and reason in told,
            f'  A key is asked for and refused: "{told}".',
            f"a refusal naming {reason!r} was expected, told was: {told}; sessions: {len(outcome.sessions)}",
        )

    def _again(self) -> None:
        outcome = self.traffic.run(5)
        self.others.append(outcome)
        self._judge(outcome, 5, "more")
