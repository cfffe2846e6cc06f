"""Fibres and devices misbehave: a tap, and blocks that come out different at the two ends."""

from __future__ import annotations

import re

import pytest

from appliance.lab import DevicePlan, Network, Node, pair, until

from .conftest import Make
from .talk import Talk, refused_with


def alarms(network: Network, device: str) -> list[str | None]:
    found = [d for node in network.nodes.values() for d in node.link()["devices"] if d["name"] == device]
    return [d["alarm"] for d in found]


@pytest.fixture
def two_fibres(make: Make) -> Network:
    """The first one's alarm is ignored, the second one's takes the link down."""
    return make(
        pair(
            DevicePlan("fibre-1", settings={"on_alarm": "ignore"}),
            DevicePlan("fibre-2", settings={"on_alarm": "down"}),
        )
    )


def test_ignored_alarm_leaves_the_link_up(two_fibres: Network) -> None:
    network = two_fibres
    network.ask_fibre("fibre-1", "tap", fraction=0.5)
    until(lambda: alarms(network, "fibre-1") == ["qber", "qber"], "the alarm at both ends")
    assert network.ready()
    with Talk(network) as talk:
        talk.keys(5)
    made = network.ask_fibre("fibre-2", "status")["blocks"]
    until(lambda: network.ask_fibre("fibre-2", "status")["blocks"] > made, "the other fibre's blocks")
    network.ask_fibre("fibre-1", "tap", fraction=0)
    until(lambda: alarms(network, "fibre-1") == [None, None], "the alarm's end")


def test_alarm_takes_the_link_down(two_fibres: Network) -> None:
    network = two_fibres
    with Talk(network) as talk:
        talk.keys(3)
        network.ask_fibre("fibre-2", "tap", fraction=0.5)
        until(lambda: not any(node.usable() for node in network.nodes.values()), "both ends go down")
        for node in network.nodes.values():
            assert node.link()["cause"] == "device fibre-2: error rate above the limit"
            assert "device-alarm-qber" in node.units["device-fibre-2"].said()
        refused_with(lambda: talk.key(), "device fibre-2: error rate above the limit")
        network.ask_fibre("fibre-2", "tap", fraction=0)
        network.wait_ready()
        talk.keys(3)


def test_cut_fibre_is_no_light(two_fibres: Network) -> None:
    network = two_fibres
    network.ask_fibre("fibre-2", "cut")
    until(lambda: alarms(network, "fibre-2") == ["no-light", "no-light"], "the alarm at both ends")
    network.ask_fibre("fibre-2", "mend")
    network.wait_ready()


@pytest.mark.parametrize("end", ["paris", "vienna"])
def test_block_that_differs_is_discarded_at_both_ends(network: Network, end: str) -> None:
    """One bit of it is wrong at one end: the fingerprints tell."""
    network.ask_fibre("fibre-1", "mismatch", end=end, blocks=2)
    for node in network.nodes.values():
        until(lambda n=node: len(differing(n)) >= 2, f"two alarms at {node.name}")  # type: ignore[misc]
    found = [differing(node) for node in network.nodes.values()]
    assert found[0] == found[1]
    for node in network.nodes.values():
        kept = {path.name for path in (node.disk / "dataplane/line/blocks").iterdir()}
        assert not kept & {f"{block}.key" for block in found[0]}
    with Talk(network) as talk:
        talk.keys(50)


def differing(node: Node) -> set[str]:
    """Blocks of store-mismatch alarms."""
    lines = [line for line in node.units["dataplane"].said().splitlines() if "store-mismatch" in line]
    return {found[1] for line in lines if (found := re.search(r"block=([0-9a-f-]+)", line))}
