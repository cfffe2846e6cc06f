"""A link of a square is cut: how long until the next key, and what FRR alone needs to go round a lost carrier.

    a ---- b        Keys go from a to d, by b. The link a - b is cut. Both nodes at its ends find out by themselves:
    |      |        after `dead_after_s` without a packet that verifies (2.5 s in a lab), Q3P takes the link down, and
    c ---- d        its TUN's carrier with it. From there on the two are alike: FRR alone sees a veth lose its carrier.

Ours ends with a key that both applications have; FRR's with the route in its kernel.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

from appliance.client import Client, Connection, KeyServiceError
from appliance.lab import WaitedInVain, until
from tests.bench.frralone import frr_alone, version
from tests.bench.gain import CORNERS, RATE, SQUARE
from tests.bench.labs import Lab, lab
from tests.bench.result import Quantity, Row, Sense, turns_of

LINK = "a-b"
PORT = 5000
ASK_S = 0.02
LOOK_S = 0.002
REROUTE_TARGET = 10.0
LIMIT_S = 120.0


def _connected(client: Client, address: str) -> Connection | None:
    """The keys service may not have heard of the routes yet."""
    with contextlib.suppress(KeyServiceError):
        return client.connect(address, PORT, local_port=PORT)
    return None


class KeysAllTheTime(threading.Thread):
    """One key after the other over one connection. `times`: when both applications had each."""

    def __init__(self, made: Lab) -> None:
        super().__init__(daemon=True)
        self._lab = made
        self._stopping = threading.Event()
        self.times: list[float] = []
        self.error = ""

    def run(self) -> None:
        asking, fetching = CORNERS
        address = str(self._lab.design.node(fetching).address)
        with self._lab.client(asking) as here, self._lab.client(fetching) as there:
            there.register(PORT, "192.0.2.2")
            here.register(PORT, "192.0.2.1")
            connection = until(lambda: _connected(here, address), f"a connection to {fetching}", LIMIT_S)
            while not self._stopping.wait(ASK_S):
                try:
                    with connection.key() as key, there.fetch(key.id):
                        self.times.append(time.monotonic())
                except KeyServiceError as error:
                    self.error = str(error)

    def next_after(self, moment_s: float) -> float:
        """When the next key came: it was asked for before, and its packet lost."""
        have = len(self.times)
        until(lambda: len(self.times) > have, lambda: f"a key after the cut; {self.error}", LIMIT_S)
        return next(at_s for at_s in self.times if at_s > moment_s)

    def stop(self) -> None:
        self._stopping.set()
        self.join()


def _told_down(made: Lab) -> int:
    """How often the link's ends have told that it went down."""
    logs = "".join(made.log(end, "dataplane") for end in LINK.split("-"))
    return len(re.findall(rf"link-down: .*link={LINK}\b", logs))


def _down_at(made: Lab, told: int) -> float:
    """When an end tells so once more: looked at often, because it is measured from there."""
    end_s = time.monotonic() + LIMIT_S
    while _told_down(made) <= told:
        if time.monotonic() > end_s:
            raise WaitedInVain(f"link {LINK} is not down {LIMIT_S:.0f} s after it was cut")
        time.sleep(LOOK_S)
    return time.monotonic()


def _both_ways_known(made: Lab) -> bool:
    """At every corner two ways to the opposite one, as before a cut."""
    for here, there in (CORNERS, CORNERS[::-1], ("b", "c"), ("c", "b")):
        address = str(made.design.node(there).address)
        network = address.rpartition(".")[0] + f".{int(address.rpartition('.')[2]) - 1}/30"
        rows = made.ask(here, "dataplane", "routes")["routes"]
        if not any(row["prefix"] == network and len(row["ways"]) == 2 for row in rows):
            return False
    return True


def cut(quick: bool) -> Iterator[Row]:
    """From a cut to the next key by the other way, and from Q3P's notice of it, against FRR's own carrier reroute."""
    turns = 2 if quick else 7
    whole_s, since_down_s = [], []
    with lab(SQUARE.replace("ROUTING", "ospf").replace(RATE, "400 kbit/s")) as made:
        with frr_alone(made.design) as alone:
            alone.start()
            alone_s = [alone.reroute(*CORNERS, LINK) for _ in range(turns)]
        keys = KeysAllTheTime(made)
        keys.start()
        try:
            for _ in range(turns):
                until(lambda: _both_ways_known(made), "two ways everywhere", LIMIT_S)
                keys.next_after(time.monotonic())
                told = _told_down(made)
                cut_s = time.monotonic()
                made.keeper("cut", link=LINK, what="wire")
                down_s = _down_at(made, told)
                key_s = keys.next_after(down_s)
                whole_s.append(key_s - cut_s)
                since_down_s.append(key_s - down_s)
                made.keeper("mend", link=LINK)
        finally:
            keys.stop()
    yield Row(
        "cut of a wire to the next key by the other way",
        Quantity(statistics.median(whole_s) * 1e3, "ms"),
        "Q3P notices after dead_after_s, 2.5 s in a lab",
        turns=turns,
        notes={"ms": [round(1e3 * seconds) for seconds in whole_s]},
    )
    pairs = [(1e3 * ours, 1e3 * theirs) for ours, theirs in zip(since_down_s, alone_s, strict=True)]
    reference = f"{version()}: carrier lost to new route in the kernel"
    more: dict[str, Any] = {"target": REROUTE_TARGET, "sense": Sense.AT_MOST}
    yield turns_of("link down to the next key by the other way", pairs, "ms", reference, **more)
