"""Networks of whole nodes whose routes are OSPF's: every node with the routing unit and FRR."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab import DevicePlan, LinkPlan, Network, NetworkPlan, Run, SitePlan
from appliance.lab.plan import QUICK

BACKBONE = "0.0.0.0"


def site(name: str, address: str, area: str = BACKBONE, role: str = "qbb") -> SitePlan:
    routing = {"hello_interval_s": 1, "hold_s": 0.5, "area": area, "role": role}
    return SitePlan(name, address, routing=routing, units=("routing", "frr"))


def link(name: str, ends: tuple[str, str], network: str, cost: int, area: str = BACKBONE) -> LinkPlan:
    settings = {**QUICK, "network": network, "area": area}
    return LinkPlan(name, ends, (DevicePlan(f"fibre-{name}"),), settings, (cost, cost))


@contextlib.contextmanager
def running(plan: NetworkPlan) -> Iterator[Network]:
    """Nothing of it stays, whatever happens."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    spaces: list[str] = []
    try:
        with Run() as run:
            network = Network(run, plan)
            for node in network.nodes.values():
                # FRR wants a namespace without other doors; by its name it goes with the run.
                spaces.append(f"{node.namespace}-r")
                text = node.config.read_text().replace("[routing]", f'[routing]\nnamespace = "{spaces[-1]}"')
                node.config.write_text(text)
            network.start()
            yield network
    finally:
        for space in spaces:  # of FRR that was killed
            shutil.rmtree(Path("/run/frr") / space, ignore_errors=True)
