"""The network of the demonstration: a lab that is there as long as this process is. See figure18.toml."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from importlib import resources
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.lab import Process, Run, file, namespaces, record, starting
from appliance.lab.model import LabFile
from appliance.lab.run import unhurried
from appliance.services.control import NoAnswer

SOURCE = "figure18.toml"
START_S = 120.0
PUBLIC = {"qbb1": "198.51.100.1", "qbb4": "198.51.100.4"}  # RFC 5737
BACKBONE = IPv4Address("0.0.0.0")


def text() -> str:
    return (resources.files("appliance.demo") / SOURCE).read_text()


class Square:
    """The running lab. `links` and `nodes` are those of Area 1, in the order of the file; `ends` has all links."""

    def __init__(self, lab: LabFile, found: record.Recorded) -> None:
        self.lab, self._found = lab, found
        self.links = [link.name for link in lab.links if link.area != BACKBONE]
        self.ends = {link.name: link.ends for link in lab.links}
        self.nodes = list(dict.fromkeys(end for link in self.links for end in self.ends[link]))

    def ask(self, node: str, unit: str, word: str) -> Any:
        """Raises NoAnswer and Refused."""
        return starting.node_ask(self._found, node, unit, word)

    def plane(self, node: str) -> dict[str, dict[str, Any]] | None:
        """Status of a node's links, by name. None: its data plane does not answer."""
        with contextlib.suppress(NoAnswer):
            return {link["name"]: link for link in self.ask(node, "dataplane", "status")["links"]}
        return None

    def link(self, node: str, link: str) -> dict[str, Any]:
        """At that end. Raises NoAnswer."""
        links: list[dict[str, Any]] = self.ask(node, "dataplane", "status")["links"]
        return next(found for found in links if found["name"] == link)

    def usable(self, link: str) -> bool:
        """Does it carry session keys, at both ends?"""
        return all((self.plane(node) or {}).get(link, {}).get("usable", False) for node in self.ends[link])

    def ready(self) -> bool:
        return all(self.usable(link) for link in self.links)

    def routes(self, node: str) -> dict[str, dict[str, Any]]:
        """What its routing unit computed, by destination."""
        with contextlib.suppress(NoAnswer):
            return {route["destination"]: route for route in self.ask(node, "routing", "routes")["routes"]}
        return {}

    def ways(self, node: str, prefix: str) -> list[str]:
        """Links by which its data plane sends to a destination, the preferred first."""
        with contextlib.suppress(NoAnswer):
            table = self.ask(node, "dataplane", "routes")["routes"]
            return [way["link"] for row in table if row["prefix"] == prefix for way in row["ways"]]
        return []

    def names(self, node: str) -> set[str]:
        """Of the applications that it knows to be registered somewhere."""
        with contextlib.suppress(NoAnswer):
            return {found["name"] for found in self.ask(node, "routing", "registrations")["registrations"]}
        return set()

    def do(self, word: str, **arguments: Any) -> None:
        """A fault, or its end: as qbb lab does. Raises NoAnswer and Refused."""
        starting.keeper_ask(self.lab.name, word, **arguments)

    def address(self, node: str) -> str:
        return str(self.lab.node(node).address)

    def pfkey(self, node: str) -> Path:
        return self._found.runtime(node) / "pfkey.sock"

    def log(self, node: str, link: str) -> Path:
        """The link's log at that node."""
        return Path(self._found.nodes[node]) / "state" / "dataplane" / link / "log"


@contextlib.contextmanager
def running(name: str, directory: Path, tell: starting.Tell) -> Iterator[Square]:
    """Made, up with all routes, and removed at the end. Raises CannotStart, and AssertionError when it is not up."""
    path = directory / SOURCE
    path.write_text(text().replace('name = "demo"', f'name = "{name}"'))
    lab = file.load(path)
    starting.check(lab)
    record.end(name)  # what one that was killed left
    with starting.starting(lab, path, with_us=True) as keeper:
        try:
            starting.build(keeper, tell)
            missing = starting.wait(lab, tell, time.monotonic() + START_S)
            told = "; ".join(f"{node}, {what}: {why}" for (node, what), why in list(missing.items())[:4])
            assert not missing, f"the network is not up after {START_S:.0f} s: {told}"
            found = record.read(name)
            assert found is not None
            yield Square(lab, found)
        finally:
            with unhurried():
                record.end(name)
                keeper.wait()


def last_words(name: str, lines: int = 6) -> Iterator[str]:
    """Ends of the logs of all units, for whoever looks for a cause."""
    if (found := record.read(name)) is not None:
        for path in sorted(Path(found.directory).glob("*.log")):
            for line in path.read_text(errors="replace").splitlines()[-lines:]:
                yield f"{path.stem}: {line}"


class Host:
    """A computer beside a node, which runs an application. The hosts meet on the public network: another than that of
    the nodes."""

    def __init__(self, run: Run, square: Square, node: str) -> None:
        self.name, self.address, self.pfkey = node, square.address(node), square.pfkey(node)
        self.namespace = run.namespace(f"host-{node}")
        self._run = run

    def public_address(self) -> str:
        return PUBLIC[self.name]

    def process(self, name: str, command: list[str]) -> Process:
        return self._run.process(f"{self.name}-{name}", self.namespace, command)


def hosts(run: Run, square: Square) -> tuple[Host, Host]:
    """One beside QBB1 and one beside QBB4, joined by a cable."""
    first, second = (Host(run, square, node) for node in PUBLIC)
    ends = [(host.namespace, host.public_address()) for host in (first, second)]
    namespaces.wire("public", ends[0], ends[1])
    return first, second
