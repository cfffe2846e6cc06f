"""Both ends of registry.sock, the keys service's and the routing unit's, in one loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path

import pytest

from appliance.keys.finding import Found, Where
from appliance.keys.pfkey import SaType
from appliance.keys.registry import Application
from appliance.network.errors import LocalProtocolError
from appliance.routing.registrations import Registration
from appliance.services import keys_registry
from appliance.services.keys_registry import RegistryLink
from appliance.services.registryport import MOST_FOUND, RegistryPort
from appliance.services.runtime import Loop

NODE = IPv4Address("1.1.1.1")
WEB = Application(443, SaType.TLS, ip_address("192.0.2.7"), 1, "web")
MAIL = Application(25, SaType.TLS, ip_address("2001:db8::1"), 2)


def as_told(one: Application) -> Registration:
    return Registration(NODE, one.port, one.satype, one.name, one.address)


class Bench:
    def __init__(self, path: Path) -> None:
        self.loop, self.path = Loop(), path
        self.known: dict[Registration, None] = {}
        self.network: list[tuple[Registration, int]] = []
        self.refuse: set[int] = set()
        self.settled = True
        self.answers: dict[int, Found | None] = {}
        self.port: RegistryPort | None = None

    def serve(self) -> None:
        self.port = RegistryPort(
            self.loop, self.path, NODE, self._add, self.known.pop, self._find, lambda: self.settled
        )

    def end(self) -> None:
        assert self.port is not None
        self.port.close()
        self.port = None

    def link(self) -> RegistryLink:
        return RegistryLink(self.loop, self.path, self.answers.__setitem__)

    def _add(self, one: Registration) -> None:
        if one.port in self.refuse:
            raise LocalProtocolError("not here")
        self.known[one] = None

    def _find(self, name: str | None, address: IPv4Address | None, port: int) -> list[tuple[Registration, int]]:
        return [(one, cost) for one, cost in self.network if one.name == name]

    def until(self, holds: Callable[[], object]) -> None:
        end_s = self.loop.now() + 20
        while not holds():
            assert self.loop.now() < end_s, "waited in vain"
            self.loop.turn(0.05)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "registry.sock")
    yield made
    if made.port is not None:
        made.end()


def test_a_routing_unit_that_comes_later_or_again_hears_of_all(bench: Bench) -> None:
    link = bench.link()
    link.announce(WEB)
    link.announce(MAIL)
    bench.serve()
    bench.until(lambda: len(bench.known) == 2)
    assert set(bench.known) == {as_told(WEB), as_told(MAIL)}
    link.withdraw(MAIL)
    bench.until(lambda: len(bench.known) == 1)
    bench.end()
    assert not bench.known
    bench.until(lambda: not link.up)
    bench.serve()
    bench.until(lambda: bench.known)
    assert set(bench.known) == {as_told(WEB)} and link.announced == 1
    link.close()
    bench.until(lambda: not bench.known)


def test_thousands_at_once_and_none_is_lost(bench: Bench) -> None:
    bench.serve()
    link = bench.link()
    many = [Application(port, SaType.TLS, WEB.address, 1, f"application-{port}") for port in range(1, 5001)]
    for one in many:
        link.announce(one)
    bench.until(lambda: len(bench.known) == len(many))
    for one in many:
        link.withdraw(one)
    link.find(1, "web")
    bench.until(lambda: 1 in bench.answers)
    assert not bench.known and not link.dropped
    link.close()


def test_what_is_found_comes_nearest_first_and_not_more_than_fits(bench: Bench) -> None:
    bench.serve()
    link = bench.link()
    name = "ä" * 32
    places = [IPv4Address(f"1.1.{n}.1") for n in range(1, 200)]
    for cost, place in enumerate(places):
        bench.network.insert(0, (Registration(place, 443, SaType.TLS, name), cost))
    link.find(7, name)
    bench.until(lambda: 7 in bench.answers)
    nearest = tuple(Where(place, 443, SaType.TLS) for place in places[:MOST_FOUND])
    assert bench.answers[7] is not None and tuple(bench.answers[7].places) == nearest
    bench.settled = False
    link.find(8, "nobody")
    bench.until(lambda: 8 in bench.answers)
    assert bench.answers[8] == Found([], complete=False)
    link.close()


def test_without_a_routing_unit(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    link = bench.link()
    link.find(1, "web")
    assert bench.answers == {1: None}, "none was here: an answer at once"
    bench.serve()
    bench.until(lambda: link.up)
    assert bench.port is not None
    bench.end()
    link.find(2, "web")
    bench.until(lambda: 2 in bench.answers)
    link.find(3, "web")
    assert bench.answers[2] == bench.answers[3] == Found((), complete=False), "one was here: it may come back"
    monkeypatch.setattr(keys_registry, "GONE_S", 0.0)
    link.find(4, "web")
    assert bench.answers[4] is None


def test_what_the_routing_unit_refuses_is_told(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.refuse.add(443)
    bench.serve()
    link = bench.link()
    link.announce(WEB)
    bench.until(lambda: link.dropped["registry-refused"])
    assert "application at port 443: not here" in capfd.readouterr().err
    link.close()
