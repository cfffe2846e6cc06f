"""The monitor of a real node: a killed unit, a tapped fibre, forged packets, and back to good."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

from appliance.lab import Network, pair, until

from .conftest import Make


def monitored() -> Any:
    plan = pair()
    sites = tuple(dataclasses.replace(site, units=(*site.units, "monitor")) for site in plan.sites)
    return dataclasses.replace(plan, sites=sites)


def standing(network: Network) -> set[tuple[str, str]]:
    return {(row["alarm"], row["about"]) for row in network.node("paris").ask("monitor", "status")["alarms"]}


def alarms_command(network: Network) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "appliance.cli.main", "--config", str(network.node("paris").config), "alarms"]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def told_good(told: subprocess.CompletedProcess[str]) -> bool:
    return (told.returncode, told.stdout.strip()) == (0, "Health of node paris: good.")


def test_alarms_come_and_go(make: Make) -> None:
    network = make(monitored())
    paris = network.node("paris")

    def shows(*wanted: tuple[str, str]) -> None:
        until(lambda: set(wanted) <= standing(network), lambda: f"{wanted}; standing are {standing(network)}", 60)

    def good() -> None:
        until(lambda: not standing(network), lambda: f"no alarm; standing are {standing(network)}", 60)

    good()
    until(lambda: told_good(alarms_command(network)), lambda: f"qbb alarms: {alarms_command(network).stdout}")
    paris.units["keys"].kill()
    shows(("unit-silent", "keys"))
    told = alarms_command(network)
    assert told.returncode == 1
    assert "qbb-keys does not answer" in told.stdout
    paris.start("keys")
    good()
    network.ask_fibre("fibre-1", "tap", fraction=0.9)
    shows(("device-qber", "fibre-1"), ("link-down", "line"))
    network.ask_fibre("fibre-1", "tap", fraction=0)
    good()
    until(lambda: paris.ask("monitor", "status")["health"] == "good", "the node is healthy")
    assert "unit-silent" in paris.units["monitor"].said()
    assert "node-healthy" in paris.units["monitor"].said()
