"""What load-aware forwarding gains: keys between opposite corners of a square whose links run dry.

    a ---- b        From a to d lead two ways of two links; by b is the shortest. All links make the same key.
    |      |        Applications at both corners ask for more than both ways together can carry.
    c ---- d

The reference is the same square with nothing but the shortest routes (configured, as `qbb lab` does without OSPF).
Both squares run side by side, so that other load of the machine meets both alike. A key counts when both applications
have it; counting begins when the stores are drained.

The bound is a maximum flow (networkx) over the key that each link made in the time, divided by what a delivered key
byte costs on each hop at least: keys in full segments, one tag to a segment, nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import networkx

from appliance.client import Client, Connection, KeyServiceError
from appliance.lab import until
from tests.bench.labs import Lab, lab
from tests.bench.result import Row, turns_of

RATE = "40 kbit/s"
SQUARE = f"""
[lab]
routing = "ROUTING"

[[node]]
name = "a"
[[node]]
name = "b"
[[node]]
name = "c"
[[node]]
name = "d"

[[kind]]
name = "fibre"
key_rate = "{RATE}"

[[link]]
ends = ["a", "b"]
kind = "fibre"
cost = 5
[[link]]
ends = ["b", "d"]
kind = "fibre"
cost = 5
[[link]]
ends = ["a", "c"]
kind = "fibre"
cost = 6
[[link]]
ends = ["c", "d"]
kind = "fibre"
cost = 6
"""
CORNERS = ("a", "d")
CLIENTS = 4  # connections in each direction
STOCK = 64
KEY_BYTES = 32
SEGMENT_KEYS = 25
TAG_BYTES = 16
KEY_COST_BYTES = KEY_BYTES + TAG_BYTES / SEGMENT_KEYS  # on each hop, at least
FIRST_PORT = 5000
RETRY_S = 0.2
LIMIT_S = 120.0
GAIN_TARGET, BOUND_TARGET = 1.7, 0.6


class Applications(threading.Thread):
    """One at each end: the first asks for key after key, the other fetches each. They count what both have."""

    def __init__(self, made: Lab, asking: str, fetching: str, port: int) -> None:
        super().__init__(daemon=True)
        self._lab, self._ends, self._port = made, (asking, fetching), port
        self._stopping = threading.Event()
        self.delivered = 0
        self.refused: Counter[str] = Counter()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._session()
            except OSError as error:
                self.refused[str(error.strerror)] += 1
                self._stopping.wait(RETRY_S)

    def _session(self) -> None:
        asking, fetching = self._ends
        address = str(self._lab.design.node(fetching).address)
        with self._lab.client(asking) as here, self._lab.client(fetching) as there:
            there.register(self._port, "192.0.2.2")
            here.register(self._port, "192.0.2.1")
            connection = here.connect(address, self._port, local_port=self._port, prefetch=STOCK)
            while not self._stopping.is_set():
                self._one(connection, there)

    def _one(self, connection: Connection, there: Client) -> None:
        try:
            with connection.key() as key, there.fetch(key.id):
                self.delivered += 1
        except KeyServiceError as error:
            if isinstance(error, ConnectionError) or error.errno == errno.ENOTCONN:
                raise  # connect anew
            self.refused[str(error.strerror)] += 1
            self._stopping.wait(RETRY_S)

    def stop(self) -> None:
        self._stopping.set()


@dataclass(frozen=True)
class Levels:
    """Of one lab at one moment: keys that both applications had, and of each link the key stored and spent."""

    at_s: float
    keys: int
    stored: dict[tuple[str, str], int]
    spent: dict[tuple[str, str], Counter[str]]

    def keys_per_s(self, before: Levels) -> float:
        return (self.keys - before.keys) / (self.at_s - before.at_s)

    def bound_keys_per_s(self, before: Levels) -> float:
        """Maximum flow between the corners over the key that the links made; what the stores gave counts as made."""
        graph = networkx.Graph()
        for (one, other), spent in self.spent.items():
            ends = one, other
            used = spent.total() - before.spent[ends].total()
            made = max(0, used + self.stored[ends] - before.stored[ends])
            graph.add_edge(one, other, capacity=made / KEY_COST_BYTES)
        return float(networkx.maximum_flow_value(graph, *CORNERS)) / (self.at_s - before.at_s)

    def spent_by_cause(self, before: Levels) -> dict[str, int]:
        return dict(sum(self.spent.values(), Counter()) - sum(before.spent.values(), Counter()))


class Crowd:
    """A lab and all applications at its two corners, for the time of a `with` block."""

    def __init__(self, made: Lab) -> None:
        self._lab = made
        self._applications = [
            Applications(made, *ends, FIRST_PORT + 2 * number + turn)
            for number in range(CLIENTS)
            for turn, ends in enumerate((CORNERS, CORNERS[::-1]))
        ]

    def __enter__(self) -> Self:
        for applications in self._applications:
            applications.start()
        return self

    def __exit__(self, *_: object) -> None:
        for applications in self._applications:
            applications.stop()
        for applications in self._applications:
            applications.join()

    @property
    def keys(self) -> int:
        """That both applications had."""
        return sum(one.delivered for one in self._applications)

    @property
    def refusals(self) -> dict[str, int]:
        return dict(sum((one.refused for one in self._applications), Counter()))

    def levels(self) -> Levels:
        status = {node.name: self._lab.links(node.name) for node in self._lab.design.nodes}
        stored, spent = {}, {}
        for link in self._lab.design.links:
            here, there = (status[end][link.name] for end in link.ends)
            stored[link.ends] = here["stored_bytes"]
            spent[link.ends] = Counter(here["spent_bytes"]) + Counter(there["spent_bytes"])
        return Levels(time.monotonic(), self.keys, stored, spent)


def load_aware(quick: bool) -> Iterator[Row]:
    """Keys between opposite corners of a saturated square: by both ways, against the shortest alone."""
    turns, turn_s, drain_s = (2, 2.0, 1.0) if quick else (5, 15.0, 25.0)
    with contextlib.ExitStack() as stack:
        spread, shortest = (stack.enter_context(lab(SQUARE.replace("ROUTING", kind))) for kind in ("ospf", "static"))
        aware, plain = (stack.enter_context(Crowd(made)) for made in (spread, shortest))
        time.sleep(drain_s)
        seen = [(aware.levels(), plain.levels())]
        for _ in range(turns):
            time.sleep(turn_s)
            # A link that has run dry takes traffic again at its high mark: a turn is long enough for some.
            until(lambda: aware.keys > seen[-1][0].keys and plain.keys > seen[-1][1].keys, "keys", LIMIT_S)
            seen.append((aware.levels(), plain.levels()))
        refusals = {"load-aware": aware.refusals, "shortest path": plain.refusals}
    rates, shares = [], []
    for (aware_before, plain_before), (aware_after, plain_after) in pairwise(seen):
        rates.append((aware_after.keys_per_s(aware_before), plain_after.keys_per_s(plain_before)))
        shares.append((rates[-1][0], aware_after.bound_keys_per_s(aware_before)))
    notes = {
        "spent_bytes": {"load-aware": seen[-1][0].spent_by_cause(seen[0][0])},
        "refusals": refusals,
    }
    name = f"keys across a square, {2 * CLIENTS} connections that want more, links of {RATE}"
    yield turns_of(name, rates, "keys/s", "the same square, shortest path only", target=GAIN_TARGET, notes=notes)
    yield turns_of(
        f"{name}, share of the bound", shares, "keys/s", "maximum flow over the links' key (networkx)",
        target=BOUND_TARGET, notes=notes,
    )  # fmt: skip
