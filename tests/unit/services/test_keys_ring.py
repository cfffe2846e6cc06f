"""The keys service's connection to the data plane, by a clock of the test: whoever asks is refused only while the data
plane does not run."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address
from pathlib import Path

from appliance.native.shelf import KeySource, Shelf
from appliance.services.control import listen
from appliance.services.keys_ring import OUTAGE_S, RETRY_S, RingLink
from appliance.services.ringport import RingPort
from appliance.services.runtime import Loop

VIENNA = IPv4Address("1.1.1.2")
GONE = "this node's data plane does not run"


class Bench:
    """Time stands still, and nothing comes by the clock, unless the test says so."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 100.0
        self.path = folder / "ring.sock"
        self.loop = Loop(lambda: self.now_s)
        self.ways_changed = 0
        shelf = Shelf(4, KeySource())
        self.link = RingLink(self.loop, self.path, shelf, lambda clear, keys: None, lambda: None, self._way_changed)

    def _way_changed(self) -> None:
        self.ways_changed += 1

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def serve(self) -> RingPort:
        """A data plane with one link, to vienna."""
        link = {"name": "line", "usable": True}
        told = {"type": "links", "links": [link], "routes": [{"prefix": "1.1.1.2/32", "link": "line"}]}
        return RingPort(self.loop, self.path, Plane(), "1.1.1.1", lambda: told)  # type: ignore[arg-type]


class Plane:
    def set_ring(self, *ring: object) -> None:
        """Takes it."""


def test_who_asks_does_not_wait_for_the_clock(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.link.outage(VIENNA) is None, "it may just be starting"
    bench.pass_s(OUTAGE_S)
    assert bench.link.outage(VIENNA) == GONE
    bench.serve()
    assert bench.link.outage(VIENNA) is None, "it is there, and its ring on the way"
    assert not bench.link.up
    while not bench.ways_changed:
        bench.loop.turn(0.1)
    assert bench.link.up and bench.link.outage(VIENNA) is None and bench.link.link_name(VIENNA) == "line"


def test_one_that_gives_no_ring_does_not_run(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.pass_s(OUTAGE_S)
    with listen(bench.path, socket.SOCK_SEQPACKET, 0o600):
        assert bench.link.outage(VIENNA) is None
        bench.pass_s(OUTAGE_S)
        assert bench.link.outage(VIENNA) == GONE


def test_asking_makes_no_further_tries_by_the_clock(tmp_path: Path) -> None:
    """However often somebody asked and the connection broke, one try is due at a time."""
    bench = Bench(tmp_path)
    for _ in range(5):
        with listen(bench.path, socket.SOCK_SEQPACKET, 0o600) as listener:
            bench.link.outage(VIENNA)
            listener.accept()[0].close()
        bench.path.unlink()
        bench.loop.turn(0)
    tries = []
    bench.link._unit.attempt = lambda: tries.append(bench.now_s)  # type: ignore[method-assign]
    for _ in range(3):
        bench.pass_s(RETRY_S)
        bench.loop.turn(0)
    assert tries == [100.0 + RETRY_S, 100.0 + 2 * RETRY_S, 100.0 + 3 * RETRY_S]
