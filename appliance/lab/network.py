"""The whole network: nodes, wires, fibres, link secrets."""

from __future__ import annotations

import shutil
from typing import Any

from appliance.devices import fibrewire
from appliance.lab import namespaces
from appliance.lab.node import Node
from appliance.lab.plan import DevicePlan, LinkPlan, NetworkPlan
from appliance.lab.process import Process, python
from appliance.lab.run import Run
from appliance.lab.waiting import LIMIT_S, until
from appliance.native import linksecret

SECRET_BYTES = 8192


class Network:
    """Everything is made at once; nothing runs before `start`."""

    def __init__(self, run: Run, plan: NetworkPlan) -> None:
        self.run, self.plan = run, plan
        self._ground = run.namespace("fibres")  # belongs to no node: where the light is
        self.nodes = {site.name: Node(run, plan, site, run.directory) for site in plan.sites}
        self.fibres: dict[str, Process] = {}
        for link in plan.links:
            self.make_secret(link)
            ends = [(self.nodes[site].namespace, str(plan.host(link, site))) for site in link.ends]
            namespaces.wire(link.name[:15], ends[0], ends[1])
            self.fibres |= {device.name: self._fibre(device) for device in link.devices}

    def _fibre(self, device: DevicePlan) -> Process:
        words = ["--socket", self._address(device.name), "--distance-km", str(device.distance_km)]
        words += ["--speed", str(device.speed), "--block-bytes", str(device.block_bytes)]
        words += ["--interval-s", str(device.interval_s)]
        return self.run.process(f"fibre-{device.name}", self._ground, python("appliance.devices.fibre", *words))

    def _address(self, device: str) -> str:
        return f"unix:{self.run.directory / device}.sock"

    def make_secret(self, link: LinkPlan) -> None:
        """As `qbb link secret` does, carried to both ends."""
        first, second = (self.run.directory / f"{site}-{link.name}.secret" for site in link.ends)
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
        linksecret.make(first, SECRET_BYTES)
        shutil.copy(first, second)  # keeps the mode

    def node(self, name: str) -> Node:
        return self.nodes[name]

    def link(self, name: str) -> LinkPlan:
        return next(link for link in self.plan.links if link.name == name)

    def processes(self) -> list[Process]:
        """All fibres and units."""
        return [*self.fibres.values(), *(unit for node in self.nodes.values() for unit in node.units.values())]

    # Running ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """All fibres and all units; returns when every unit answers."""
        for fibre in self.fibres.values():
            fibre.start()
        for node in self.nodes.values():
            node.start()
        for node in self.nodes.values():
            node.wait_answers()

    def ready(self) -> bool:
        """Do all links carry session keys, at both ends, and do the keys services have their data planes?"""
        links = all(self.nodes[site].usable(link.name) for link in self.plan.links for site in link.ends)
        return links and all(node.serves() for node in self.nodes.values())

    def wait_ready(self, limit_s: float = LIMIT_S) -> None:
        until(self.ready, lambda: f"all links ready; they are {self.describe()}", limit_s)

    def describe(self) -> str:
        """State and cause of every link's end, in one line."""
        told = []
        for name, node in self.nodes.items():
            for link in node.ask("dataplane", "status")["links"] if node.answers("dataplane") else []:
                told.append(f"{name} {link['name']}: {link['state']}, {link['store_state']}, {link['cause']}")
            if not node.serves():
                told.append(f"{name}: the keys service has no data plane")
        return "; ".join(told)

    # Faults ----------------------------------------------------------------------------------------------------------

    def cut(self, link: str) -> None:
        """Cuts the classical channel."""
        namespaces.set_up(self.nodes[self.link(link).ends[0]].namespace, link[:15], False)

    def mend(self, link: str) -> None:
        namespaces.set_up(self.nodes[self.link(link).ends[0]].namespace, link[:15], True)

    def lose(self, link: str, sender: str, lost: bool = True) -> None:
        """What the sender's end sends gets lost silently, until it is told otherwise."""
        ends = self.link(link).ends
        far = next(site for site in ends if site != sender)
        address = str(self.plan.host(self.link(link), far))
        namespaces.lose(self.nodes[sender].namespace, link[:15], address, lost)

    def ask_fibre(self, device: str, command: str, **arguments: Any) -> Any:
        """tap fraction=, cut, mend, mismatch end= blocks= and others: devices/fibrewire.py."""
        return fibrewire.ask(self._address(device), command, **arguments)
