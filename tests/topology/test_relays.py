"""What happens to a network while keys cross its relays: real units, real FRR, and a listener at every wire.

               berlin
             /        \\
        north          east        from paris to vienna: 1 + 1 by rome, 10 + 1 by berlin,
           /              \\
      paris              vienna
           \\              /
         line          south
             \\        /
                rome

In each test one connection goes on all the time (Steady) and is never made anew. All share one network, which has to
come back by itself after each.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.lab import DevicePlan, LinkPlan, Network, NetworkPlan, Node, SitePlan, namespaces, until
from appliance.lab.plan import QUICK
from appliance.services.control import NoAnswer
from tests.endurance.wire import Tap, Wire

from .routed import running
from .steady import Steady

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

ADDRESSES = {"paris": "1.1.1.1", "berlin": "1.1.2.1", "rome": "1.1.3.1", "vienna": "1.1.4.1"}
BY_ROME, BY_BERLIN = ("line", 3, True), ("north", 12, True)
PATIENCE_S = 120.0
MOST_HOPS = 8  # while routes change a packet may turn round once, not circle
SPEED = 20.0  # of the light sources: about 50 kbit/s of key
DAMPING_S = 8.0  # flaps must add up to what is damped on a busy machine too, where each takes up to five seconds
MOST_FLAPS = 12
LONG_KEY_BYTES = 256  # of one connection: as much key as a link makes


def site(name: str) -> SitePlan:
    routing = {"hello_interval_s": 1, "hold_s": 0.5, "damping_half_life_s": DAMPING_S}
    return SitePlan(name, ADDRESSES[name], routing=routing, units=("routing", "frr"))


def link(name: str, ends: tuple[str, str], number: int, cost: int) -> LinkPlan:
    settings = {**QUICK, "chunk_bytes": "4 KiB", "network": f"1.1.128.{4 * number}/30"}
    return LinkPlan(name, ends, (DevicePlan(f"fibre-{name}", speed=SPEED),), settings, (cost, cost))


def taps(network: Network) -> Iterator[Tap]:
    for plan in network.plan.links:
        name = min(plan.ends, key=ADDRESSES.__getitem__)
        node = network.node(name)
        log = node.disk / "dataplane" / plan.name / "log"
        yield Tap(plan.name, node.namespace, plan.name[:15], network.plan.host(plan, name).packed, log)


@pytest.fixture(scope="module")
def networks() -> Iterator[list[Network]]:
    plan = NetworkPlan(
        tuple(map(site, ADDRESSES)),
        (
            link("north", ("paris", "berlin"), 0, 10),
            link("east", ("berlin", "vienna"), 1, 1),
            link("line", ("paris", "rome"), 2, 1),
            link("south", ("rome", "vienna"), 3, 1),
        ),
    )
    with running(plan) as network:
        network.wait_ready(PATIENCE_S)
        yield [network]


@pytest.fixture(scope="module")
def wire(networks: list[Network]) -> Iterator[Wire]:
    listening = Wire(list(taps(networks[0])))
    listening.start()
    yield listening
    listening.stop()


@pytest.fixture
def network(networks: list[Network], wire: Wire) -> Iterator[Network]:
    """All is well before the test and, by itself, after it; no word of key was used twice, no packet circled."""
    wait_well(networks[0])
    yield networks[0]
    wait_well(networks[0])
    assert wire.violations() == [] and wire.failure == ""
    assert 64 - wire.least_ttl() <= MOST_HOPS
    for node in networks[0].nodes.values():
        assert not node.ask("dataplane", "status")["network_drops"].get("ttl")
        assert "Traceback" not in "".join(unit.said() for unit in node.units.values())


def ways(network: Network, name: str = "paris", to: str = "vienna") -> list[tuple[str, int, bool]]:
    """To a node's own network, as the data plane has them."""
    prefix = f"{ADDRESSES[to].removesuffix('.1')}.0/30"
    with contextlib.suppress(NoAnswer):
        table: list[dict[str, Any]] = network.node(name).ask("dataplane", "routes")["routes"]
        found = (row for row in table if row["prefix"] == prefix)
        return [(way["link"], way["cost"], way["loop_free"]) for row in found for way in row["ways"]]
    return []


def wait_ways(network: Network, *wanted: tuple[str, int, bool]) -> None:
    until(lambda: ways(network) == list(wanted), lambda: f"{wanted}; it is {ways(network)}", PATIENCE_S)


def wait_well(network: Network) -> None:
    network.wait_ready(PATIENCE_S)
    wait_ways(network, BY_ROME, BY_BERLIN)
    back = [("south", 3, True)]
    until(lambda: ways(network, "vienna", "paris") == back, lambda: f"{ways(network, 'vienna', 'paris')}", PATIENCE_S)


def relayed(network: Network, relay: str) -> int:
    """Bytes of session key that this relay sent on towards vienna and its far end acknowledged."""
    return int(network.node(relay).link({"rome": "south", "berlin": "east"}[relay])["delivered_key_bytes"])


def wait_relayed(network: Network, relay: str, steady: Steady) -> None:
    """The connection's keys go by this relay now."""
    before = relayed(network, relay)
    until(lambda: relayed(network, relay) >= before + 5 * 32, f"keys by {relay}", PATIENCE_S)
    steady.more()


def daemon(node: Node, program: str) -> int:
    """Process id of a node's zebra or ospfd; the one that runs, where an old one is going."""
    running = node.ask("frr", "status")["running"]
    return int(running[program])


def pids(node: Node) -> dict[int, str]:
    """Of all zebras and ospfds in the node's namespace for OSPF."""
    found = {}
    for pid in namespaces.processes(f"{node.namespace}-r"):
        with contextlib.suppress(OSError):  # ended meanwhile
            found[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
    return {pid: name for pid, name in found.items() if name in ("zebra", "ospfd")}


# --- links -----------------------------------------------------------------------------------------------------------


def test_load_moves_away_from_a_link_whose_key_rate_falls(network: Network) -> None:
    """Before its store is empty: it stays usable all the time, and the routes are what they were."""
    paris = network.node("paris")
    with Steady(network, length_bytes=LONG_KEY_BYTES) as steady:
        before = relayed(network, "berlin")
        network.ask_fibre("fibre-line", "speed", factor=SPEED / 10)
        try:
            seen = []

            def moved() -> bool:
                seen.append(paris.usable("line") and ways(network)[:1] == [BY_ROME])
                return relayed(network, "berlin") > before + 100 * LONG_KEY_BYTES

            until(moved, lambda: f"keys by berlin: {paris.link('line')}", PATIENCE_S)
            assert all(seen), f"line ran dry: {paris.link('line')}"
            steady.more()
        finally:
            network.ask_fibre("fibre-line", "speed", factor=SPEED)
        steady.more()


@pytest.mark.parametrize("name", ["south", "line"])
def test_a_cut(network: Network, name: str) -> None:
    """South is beyond the first hop: paris hears of it by OSPF alone."""
    with Steady(network) as steady:
        wait_relayed(network, "rome", steady)
        network.cut(name)
        wait_relayed(network, "berlin", steady)
        until(lambda: ways(network)[:1] == [BY_BERLIN], "the route by berlin", PATIENCE_S)
        network.mend(name)
        wait_relayed(network, "rome", steady)


@pytest.mark.parametrize(("name", "sender"), [("south", "rome"), ("line", "rome")])
def test_silent_loss(network: Network, name: str, sender: str) -> None:
    """Nobody is told; one direction alone, so that one end hears the other all the time."""
    with Steady(network) as steady:
        network.lose(name, sender)
        wait_relayed(network, "berlin", steady)
        network.lose(name, sender, False)
        wait_relayed(network, "rome", steady)


def test_a_tap(network: Network) -> None:
    """Both ends of the link raise the alarm, no key goes over it, and the keys go round."""
    ends = [network.node(name) for name in ("rome", "vienna")]
    with Steady(network) as steady:
        network.ask_fibre("fibre-south", "tap", fraction=0.5)
        alarms = [lambda node=node: node.link("south")["devices"][0]["alarm"] == "qber" for node in ends]
        until(lambda: all(alarm() for alarm in alarms), "the alarm at both ends", PATIENCE_S)
        until(lambda: not any(node.usable("south") for node in ends), "the link is down", PATIENCE_S)
        spent = ends[0].link("south")["spent_bytes"]["pad"]
        wait_relayed(network, "berlin", steady)
        assert ends[0].link("south")["spent_bytes"]["pad"] == spent
        network.ask_fibre("fibre-south", "tap", fraction=0)
        wait_relayed(network, "rome", steady)


def test_a_link_that_flaps_is_damped(network: Network) -> None:
    """Its routes are given up until it keeps up; meanwhile keys go the other way and do not follow each turn."""
    rome = network.node("rome")

    def damped() -> bool:
        return any(one["damped"] for one in rome.ask("routing", "status")["links"] if one["name"] == "south")

    with Steady(network) as steady:
        for _ in range(MOST_FLAPS):
            network.cut("south")
            until(lambda: not rome.usable("south"), "down", PATIENCE_S)
            network.mend("south")
            until(lambda: rome.usable("south"), "up", PATIENCE_S)
            if damped():
                break
        else:
            raise AssertionError(f"south went down {MOST_FLAPS} times and is not damped")
        assert "link-flaps" in rome.units["routing"].said()
        wait_relayed(network, "berlin", steady)
        wait_relayed(network, "rome", steady)  # it is trusted again, by itself
        assert not damped()


# --- units -----------------------------------------------------------------------------------------------------------


def test_death_of_a_relay(network: Network) -> None:
    """All its units at once, without a word. Started again it relays again."""
    rome = network.node("rome")
    with Steady(network) as steady:
        pids = [daemon(rome, program) for program in ("zebra", "ospfd")]
        for unit in rome.units.values():
            unit.signal(signal.SIGKILL)
        for unit in rome.units.values():
            unit.kill()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_relayed_by_berlin_alone(network, steady)
        rome.start()
        rome.wait_answers(limit_s=PATIENCE_S)
        wait_relayed(network, "rome", steady)


def wait_relayed_by_berlin_alone(network: Network, steady: Steady) -> None:
    wait_relayed(network, "berlin", steady)
    until(lambda: BY_ROME not in ways(network), "no route by rome", PATIENCE_S)


@pytest.mark.parametrize("place", ["rome", "paris"])
def test_a_data_plane_starts_again(network: Network, place: str) -> None:
    """Of the relay, and of the end that asks: the connection is the keys service's and lives on."""
    node = network.node(place)
    with Steady(network) as steady:
        node.units["dataplane"].kill()
        if place == "rome":
            wait_relayed(network, "berlin", steady)
        node.start("dataplane")
        node.wait_answers("dataplane", limit_s=PATIENCE_S)
        wait_relayed(network, "rome", steady)


def test_the_routing_unit_starts_again(network: Network) -> None:
    """What it told the data plane holds while it is gone. ospfd loses the TUNs with it: the others go round."""
    rome = network.node("rome")
    with Steady(network) as steady:
        rome.units["routing"].kill()
        steady.more(20)
        assert ways(network, "rome"), "the data plane keeps its table"
        rome.start("routing")
        rome.wait_answers("routing", limit_s=PATIENCE_S)
        wait_relayed(network, "rome", steady)


@pytest.mark.parametrize("program", ["zebra", "ospfd"])
def test_a_daemon_of_frr_is_started_again(network: Network, program: str) -> None:
    rome = network.node("rome")
    with Steady(network) as steady:
        old = daemon(rome, program)
        os.kill(old, signal.SIGKILL)
        until(lambda: rome.ask("frr", "status")["running"].get(program, old) != old, "a new one", PATIENCE_S)
        steady.more(20)
        wait_relayed(network, "rome", steady)


def test_frrs_unit_is_killed(network: Network) -> None:
    """Its daemons stay, for nobody ends them; when it is back they go, and there is one of each again."""
    rome = network.node("rome")
    with Steady(network) as steady:
        rome.units["frr"].kill()
        old = set(pids(rome))
        steady.more(20)
        rome.start("frr")
        rome.wait_answers("frr", limit_s=PATIENCE_S)

        def one_of_each() -> bool:
            now = pids(rome)
            return sorted(now.values()) == ["ospfd", "zebra"] and not old & set(now)

        until(one_of_each, lambda: f"one new daemon of each; old are {old}, now {pids(rome)}", PATIENCE_S)
        wait_relayed(network, "rome", steady)
