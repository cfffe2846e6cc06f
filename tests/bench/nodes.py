"""Two real nodes: what a delivered key costs in key of the link, what an idle link costs, how long a lone key takes.

Key bytes are counted by the data planes (spent_bytes by cause, delivered_key_bytes), both ends together. The cause
`store` is what confirming new key costs: it goes with the key that is made (with the number of blocks), not with the
key that is delivered. It counts in the ratio that has the target; a second row leaves it out.
"""

from __future__ import annotations

import select
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from appliance.client import Client, Connection
from tests.bench import echo
from tests.bench.pairing import BLOCK_BYTES, Pair
from tests.bench.requests import key_id, request_for_key
from tests.bench.result import Quantity, Row, Sense

KEYS_PER_S = 100.0
BATCH = 64  # a quarter of the stock: as many are refilled at a time
STOCK = 256
BATCH_INTERVAL_S = 0.2
SINGLE_TARGET, BATCH_TARGET = 1.75, 1.1
SETTLE_S = 1.0
FULL_S, QUICK_S = 20.0, 2.0
LONE_GAP_S = 0.1
KEY_BYTES = 32


@dataclass(frozen=True)
class Spent:
    """Key bytes at both ends together, by cause, and what was delivered and made."""

    causes: Counter[str]
    delivered: int
    at_s: float

    @classmethod
    def now(cls, pair: Pair) -> Spent:
        causes: Counter[str] = Counter()
        delivered = 0
        for link in pair.links().values():
            causes.update(link["spent_bytes"])
            delivered += link["delivered_key_bytes"]
        return cls(causes, delivered, time.monotonic())

    def since(self, before: Spent) -> Spent:
        causes = Counter({cause: self.causes[cause] - before.causes[cause] for cause in self.causes})
        return Spent(causes, self.delivered - before.delivered, self.at_s - before.at_s)

    @property
    def total(self) -> int:
        return self.causes.total()

    @property
    def traffic(self) -> int:
        """What delivering took: all but the confirmation of new key."""
        return self.total - self.causes["store"]


def _spent(pair: Pair, load: Callable[[], None]) -> Spent:
    """Key spent while `load` runs, with the acknowledgements that follow."""
    time.sleep(SETTLE_S)
    before = Spent.now(pair)
    load()
    time.sleep(SETTLE_S)
    return Spent.now(pair).since(before)


def _rows(name: str, spent: Spent, target: float) -> Iterator[Row]:
    delivered = Quantity(spent.delivered / spent.at_s, "B/s delivered")
    notes = {"causes": dict(spent.causes), "delivered": spent.delivered, "seconds": spent.at_s}
    for words, bytes_spent, wanted in (
        ("all causes", spent.total, target),
        ("without the confirmation of new key", spent.traffic, None),
    ):
        yield Row(
            f"key spent for key delivered, {name}, {words}",
            Quantity(bytes_spent / spent.at_s, "B/s spent"),
            f"key delivered; 1 Mbit/s in {BLOCK_BYTES >> 10} KiB blocks, {spent.at_s:.0f} s",
            delivered,
            bytes_spent / spent.delivered,
            wanted,
            Sense.AT_MOST,
            notes=notes,
        )


def single_keys(quick: bool) -> Iterator[Row]:
    """Key spent for key delivered: single 256-bit keys, 100 a second, on time, without prefetch."""
    with Pair() as pair, pair.connected() as (asking, fetching, connection):
        asked = 0

        def load() -> None:
            nonlocal asked
            asked = ask_steadily(asking, fetching, connection, QUICK_S if quick else FULL_S)

        spent = _spent(pair, load)
        assert spent.delivered >= asked * KEY_BYTES
        yield from _rows("single keys", spent, SINGLE_TARGET)


def ask_steadily(asking: Client, fetching: Client, connection: Connection, seconds: float) -> int:
    """A request each 1 / KEYS_PER_S, whether the last was answered or not. Returns their number; all were answered."""
    client = socket.socket(fileno=asking.fileno())
    try:
        client.setblocking(True)
        began = time.monotonic()
        sent = answered = 0
        wanted = round(seconds * KEYS_PER_S)
        while answered < wanted:
            due = began + sent / KEYS_PER_S
            wait = max(0.0, due - time.monotonic()) if sent < wanted else 10.0
            readable, _, _ = select.select([client], [], [], wait)
            if readable:
                fetching.fetch(key_id(client.recv(echo.MESSAGE_BYTES))).wipe()
                answered += 1
            elif sent < wanted:
                client.send(request_for_key(connection, sent + 1))
                sent += 1
            else:
                raise AssertionError(f"{wanted - answered} requests were not answered")
        return sent
    finally:
        client.detach()


def batches(quick: bool) -> Iterator[Row]:
    """Key spent for key delivered: batches of 64 keys from a prefetched connection."""
    with Pair() as pair, pair.connected(prefetch=STOCK) as (_, fetching, connection):

        def load() -> None:
            for _ in range(round((QUICK_S if quick else FULL_S) / BATCH_INTERVAL_S)):
                due = time.monotonic() + BATCH_INTERVAL_S
                for key in [connection.key() for _ in range(BATCH)]:
                    fetching.fetch(key.id).wipe()
                    key.wipe()
                time.sleep(max(0.0, due - time.monotonic()))

        yield from _rows(f"batches of {BATCH}", _spent(pair, load), BATCH_TARGET)


def idle(quick: bool) -> Iterator[Row]:
    """Key that an idle link spends, both ends together, while it makes 1 Mbit/s and while it makes none."""
    seconds = QUICK_S if quick else FULL_S
    with Pair() as pair:
        for words, making in (("making 1 Mbit/s of key", True), ("making no key", False)):
            if not making:
                pair.stop_fibre()
            spent = _spent(pair, lambda: time.sleep(seconds))
            yield Row(
                f"idle link, {words}",
                Quantity(8 * spent.total / spent.at_s, "bit/s"),
                "both ends together",
                notes={"causes": dict(spent.causes), "seconds": spent.at_s},
            )


def latency(quick: bool) -> Iterator[Row]:
    """One key without prefetch, request to answer, beside the bare UDP round trip between the nodes."""
    count = 10 if quick else 200
    lone, in_a_row, trips = [], [], []
    with Pair() as pair, pair.connected() as (_, fetching, connection):
        here, there = pair.udp_socket("paris"), pair.udp_socket("vienna")
        with closing(here), closing(there), echo.running(echo.serve_udp, there):
            here.connect(there.getsockname())
            for _ in range(count):
                time.sleep(LONE_GAP_S)
                trips.append(_timed(lambda: _round_trip(here)))
                time.sleep(LONE_GAP_S)
                lone.append(_one_key(connection, fetching))
        for _ in range(count):
            in_a_row.append(_one_key(connection, fetching))
    # At most 25 acknowledgements a second leave (each costs key); of keys asked one after another each waits for one.
    for words, values in (("a lone key without prefetch", lone), ("keys asked one after another", in_a_row)):
        for name, quantile in (("p50", 50), ("p99", 99)):
            ours, theirs = (statistics.quantiles(column, n=100)[quantile - 1] for column in (values, trips))
            yield Row(
                f"{words}, {name}",
                Quantity(ours * 1e3, "ms"),
                f"UDP round trip between the namespaces, {name}",
                Quantity(theirs * 1e3, "ms"),
                ours / theirs,
                turns=count,
            )


def _one_key(connection: Connection, fetching: Client) -> float:
    """Seconds from request to answer. What nobody fetches would fill the far end's window."""
    began = time.perf_counter()
    with connection.key() as key:
        taken = time.perf_counter() - began
        fetching.fetch(key.id).wipe()
    return taken


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _round_trip(here: socket.socket) -> bytes:
    here.send(bytes(KEY_BYTES))
    return here.recv(echo.MESSAGE_BYTES)
