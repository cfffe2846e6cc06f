"""Session keys over routes that OSPF found: real data planes, whose links carry OSPF's packets, and real FRR.

            vienna
           /      \\
      north        south      paris - vienna costs 1 + 1 by rome and 10 directly
         /          \\
    paris -- line -- rome     (paris, vienna and rome are all joined)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from appliance.lab import Network, NetworkPlan, until

from .routed import link, running, site
from .talk import Flow, Talk

PARIS, VIENNA, ROME = "1.1.1.1", "1.1.2.1", "1.1.3.1"
PATIENCE_S = 120.0


@pytest.fixture
def triangle() -> Iterator[Network]:
    plan = NetworkPlan(
        (site("paris", PARIS), site("vienna", VIENNA), site("rome", ROME)),
        (
            link("north", ("paris", "vienna"), "1.1.128.0/30", 10),
            link("line", ("paris", "rome"), "1.1.128.4/30", 1),
            link("south", ("rome", "vienna"), "1.1.128.8/30", 1),
        ),
    )
    with running(plan) as network:
        yield network


def ways(network: Network, name: str, prefix: str) -> list[tuple[str, int, bool]]:
    """As the data plane has them."""
    table: list[dict[str, Any]] = network.node(name).ask("dataplane", "routes")["routes"]
    found = (row for row in table if row["prefix"] == prefix)
    return [(way["link"], way["cost"], way["loop_free"]) for row in found for way in row["ways"]]


def told(network: Network) -> str:
    return f"the way to vienna by rome; it is {ways(network, 'paris', f'{VIENNA}/32')}"


def test_keys_go_by_the_routes_that_ospf_found(triangle: Network) -> None:
    triangle.wait_ready()
    by_rome = [("line", 3, True), ("north", 11, True)]
    until(lambda: ways(triangle, "paris", f"{VIENNA}/32") == by_rome, lambda: told(triangle), PATIENCE_S)
    until(lambda: ways(triangle, "vienna", f"{PARIS}/32"), "vienna knows the way back", PATIENCE_S)
    with Talk(triangle) as talk:
        talk.keys(10)
    spent = triangle.node("rome").link("south")["spent_bytes"]
    assert spent["pad"] >= 10 * 32, f"rome relayed them: {spent}"
    assert spent["tag_routing"] > 0, "OSPF's packets are authenticated like all others"
    flow = Flow(triangle)
    flow.start()
    flow.wait()
    triangle.cut("south")
    until(lambda: ways(triangle, "paris", f"{VIENNA}/32")[:1] == [("north", 11, True)], "around rome", PATIENCE_S)
    flow.wait()
    triangle.mend("south")
    until(lambda: ways(triangle, "paris", f"{VIENNA}/32") == by_rome, lambda: told(triangle), PATIENCE_S)
    flow.wait()
    flow.stop()
