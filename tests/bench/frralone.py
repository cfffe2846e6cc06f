"""FRR alone: zebra and ospfd of each node of a lab, told the same as in the lab, over veth pairs, without any unit.

Its routes go to the kernel, as they do without us: that is where they are seen.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

from appliance.config import RoutingConfig
from appliance.lab import Process, Run, design, namespaces, until
from appliance.lab.model import LabFile, LabLink, LabNode
from appliance.network.address import node_network
from appliance.routing import frrconfig
from appliance.services import frr
from appliance.services.frr import RUN_FOLDER, USER, ZEBRA_SOCKET

LIMIT_S = 120.0


class FrrAlone:
    """Namespaces, wires and daemons; `start` returns seconds until every node had a route to every other."""

    def __init__(self, run: Run, lab: LabFile) -> None:
        self._run, self._lab = run, lab
        self._plan = design.plan(lab)
        self.names = {node.name: run.namespace(node.name) for node in lab.nodes}
        self._folders: list[Path] = []
        for number, link in enumerate(lab.links):
            ends = [(self.names[end], str(self._interface(link, end).near)) for end in link.ends]
            namespaces.wire(wire_name(number), ends[0], ends[1], 30)
        self._daemons = {program: [self._daemon(node, program) for node in lab.nodes] for program in ("zebra", "ospfd")}

    def _interface(self, link: LabLink, here: str) -> frrconfig.Interface:
        there = link.ends[1 - link.ends.index(here)]
        planned = next(one for one in self._plan.links if one.name == link.name)
        own, peer = self._lab.node(here), self._lab.node(there)
        near, far = frrconfig.ends(own.address, peer.address, IPv4Network(str(planned.settings["network"])))
        cost = planned.costs[link.ends.index(here)]
        assert isinstance(cost, int)
        name = wire_name(self._lab.links.index(link))
        return frrconfig.Interface(link.name, name, near, far, link.area, cost)

    def _daemon(self, node: LabNode, program: str) -> Process:
        namespace = self.names[node.name]
        folder = RUN_FOLDER / namespace
        if program == "zebra":
            RUN_FOLDER.mkdir(mode=0o755, exist_ok=True)
            folder.mkdir(mode=0o755)
            shutil.chown(folder, USER, USER)
            self._folders.append(folder)
            # The node's own network: a pair of interfaces that leads nowhere (not every kernel has dummies).
            own = f"{frrconfig.node_interface(node.address)}"
            subprocess.run(
                ["ip", "-n", namespace, "-batch", "-"],
                input=f"link add {frrconfig.NODE_INTERFACE} type veth peer name nowhere\n"
                f"addr add {own} dev {frrconfig.NODE_INTERFACE}\n"
                f"link set {frrconfig.NODE_INTERFACE} up\nlink set nowhere up\n",
                check=True,
                text=True,
            )
        interfaces = tuple(self._interface(link, node.name) for link in self._lab.links_of(node.name))
        hello = design.HELLO["hello_interval_s"], design.HELLO["dead_interval_s"]
        settings = frrconfig.Settings(node.name, node.address, node.area, node.role == "qan", *hello, interfaces)
        text = getattr(frrconfig, program)(settings).replace(" distance 255\n", "")
        path = folder / f"{program}.conf"
        path.write_text(text)
        shutil.chown(path, USER, USER)
        command = [str(RoutingConfig().frr / program), "-P", "0", "-N", namespace, "-f", str(path)]
        return self._run.process(f"{node.name}-{program}", namespace, command)

    def start(self) -> float:
        began_s = time.monotonic()
        for daemon in self._daemons["zebra"]:
            daemon.start()
        for daemon, namespace in zip(self._daemons["ospfd"], self.names.values(), strict=True):
            until((RUN_FOLDER / namespace / ZEBRA_SOCKET).exists, "zebra is there", LIMIT_S)
            daemon.start()
        for (
            name
        ) in self.names:  # one after the other: asking all of them all the time would take the daemons' processor
            until(partial(self._knows_all, name), f"routes to all at {name}", LIMIT_S)
        return time.monotonic() - began_s

    def routes(self, name: str) -> dict[str, str]:
        """Destination -> next hop, of what the kernel has from OSPF."""
        words = ["ip", "-n", self.names[name], "-j", "route", "show", "proto", "ospf"]
        found = json.loads(subprocess.run(words, capture_output=True, check=True, text=True).stdout or "[]")
        return {route["dst"]: route.get("gateway", "") for route in found}

    def _knows_all(self, name: str) -> bool:
        wanted = {str(node_network(node.address)) for node in self._lab.nodes if node.name != name}
        return wanted <= self.routes(name).keys()

    def reroute(self, here: str, there: str, link: str) -> float:
        """Seconds from a link's loss of carrier, at both its ends, until `here` has another way to `there`.
        The carrier is back at the end."""
        number = next(n for n, one in enumerate(self._lab.links) if one.name == link)
        destination = str(node_network(self._lab.node(there).address))
        namespace = self.names[self._lab.links[number].ends[1]]
        before = self.routes(here)
        with self._changes(here) as changes:
            began_s = time.monotonic()
            namespaces.set_up(namespace, wire_name(number), False)
            for line in changes:
                if destination in line and not line.startswith("Deleted") and before[destination] not in line:
                    break
            took_s = time.monotonic() - began_s
        namespaces.set_up(namespace, wire_name(number), True)
        until(lambda: self.routes(here) == before, "the first way is back", LIMIT_S)
        return took_s

    @contextlib.contextmanager
    def _changes(self, name: str) -> Iterator[Iterator[str]]:
        """Lines of ip-monitor(8), as they come."""
        words = ["stdbuf", "-oL", "ip", "-n", self.names[name], "monitor", "route"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as monitor:
            assert monitor.stdout is not None
            try:
                until(lambda: listens(monitor.pid), "ip monitor listens", LIMIT_S)
                yield iter(monitor.stdout)
            finally:
                monitor.kill()

    def close(self) -> None:
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


def listens(pid: int) -> bool:
    """Does the process have a netlink socket that is a member of some group?"""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            sockets.add(str(descriptor.readlink()))
    rows = (row.split() for row in Path(f"/proc/{pid}/net/netlink").read_text().splitlines()[1:])
    return any(int(row[3], 16) and f"socket:[{row[-1]}]" in sockets for row in rows)


def version() -> str:
    return "FRR {}.{} alone".format(*frr.check(RoutingConfig().frr))


def wire_name(number: int) -> str:
    return f"w{number}"


@contextlib.contextmanager
def frr_alone(lab: LabFile) -> Iterator[FrrAlone]:
    with Run() as run:
        alone = FrrAlone(run, lab)
        try:
            yield alone
        finally:
            for node_daemons in alone._daemons.values():
                for daemon in node_daemons:
                    daemon.stop()
            alone.close()
