"""The network of an endurance run: random, with OSPF, kept by `qbb lab`."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from appliance import config
from appliance.client import Client
from appliance.lab import design, generators, namespaces, record
from appliance.lab.record import Recorded
from appliance.services import control

from .wire import Tap

KEEPER_S = 120.0
LAST_LINES = 6
INTERFACE = 15  # characters of a link's name


@dataclass(frozen=True)
class LinkEnd:
    """A link as one node has it."""

    link: str
    node: str
    peer: str
    address: str  # of the wire
    peer_address: str


class Lab:
    """A context manager: up, and down whatever happens. `folder` takes the lab file."""

    def __init__(self, folder: Path, nodes: int, seed: int) -> None:
        self.name = f"endurance-{os.getpid()}"
        self.file = folder / f"{self.name}.toml"
        self._nodes, self._seed = nodes, seed

    def __enter__(self) -> Self:
        self.file.write_text(description(self.name, self._nodes, self._seed))
        try:
            self._qbb("up", str(self.file), "--timeout", "400")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._qbb("down", self.name)

    def _qbb(self, *words: str) -> None:
        subprocess.run([sys.executable, "-m", "appliance.cli.main", "lab", *words], check=True)

    @cached_property
    def found(self) -> Recorded:
        found = record.read(self.name)
        assert found is not None
        return found

    @cached_property
    def nodes(self) -> list[str]:
        return sorted(self.found.nodes)

    @cached_property
    def configurations(self) -> dict[str, config.NodeConfig]:
        return {name: config.load(self.found.configuration(name)) for name in self.nodes}

    @cached_property
    def ends(self) -> list[LinkEnd]:
        """Both of every link."""
        names = {node.address: name for name, node in self.configurations.items()}
        return [
            LinkEnd(link.name, name, names[link.peer], link.listen.host, link.remote.host)
            for name, node in self.configurations.items()
            for link in node.links
        ]

    @cached_property
    def links(self) -> list[str]:
        return sorted({end.link for end in self.ends})

    def taps(self) -> Iterator[Tap]:
        """A listener for each link, at its master."""
        for end in self.ends:
            here, there = self.configurations[end.node], self.configurations[end.peer]
            if here.address < there.address:
                log = here.state_directory / "dataplane" / end.link / "log"
                master = bytes(map(int, end.address.split(".")))
                yield Tap(end.link, self.found.namespace(end.node), end.link[:INTERFACE], master, log)

    def client(self, node: str, timeout_s: float) -> Client:
        """Raises OSError."""
        return Client(Path(self.found.nodes[node]) / "run" / "pfkey.sock", timeout_s)

    def ask(self, node: str, unit: str, command: str) -> Any:
        """Raises NoAnswer and Refused."""
        return control.ask(Path(self.found.nodes[node]) / "run" / f"{unit}.control", command)

    def keeper(self, command: str, **arguments: Any) -> Any:
        """What `qbb lab` can do: cut, mend, tap, rate, kill, restart, status. Raises NoAnswer and Refused."""
        return control.ask(record.control(self.name), command, timeout_s=KEEPER_S, **arguments)

    def lose(self, end: LinkEnd, lost: bool) -> None:
        """What this end sends gets lost without a word. Raises OSError."""
        namespaces.lose(self.found.namespace(end.node), end.link[:INTERFACE], end.peer_address, lost)

    def daemons(self, node: str) -> dict[str, int]:
        """FRR's processes by name."""
        place = design.routing_namespace(self.found.namespace(node))
        found = {}
        for pid in namespaces.processes(place):
            with contextlib.suppress(OSError):  # ended meanwhile
                found[Path(f"/proc/{pid}/comm").read_text().strip()] = pid
        return found

    def last_words(self, node: str, unit: str) -> str:
        path = Path(self.found.directory) / f"{node}-{unit}.log"
        return " | ".join(path.read_text(errors="replace").splitlines()[-LAST_LINES:]) if path.exists() else "nothing"

    def logs(self) -> Iterator[Path]:
        """What the units said."""
        return Path(self.found.directory).glob("*.log")


def description(name: str, nodes: int, seed: int) -> str:
    """The lab file: three links a node on the average, with different costs each way."""
    dice = Random(seed)
    pairs = generators.random(nodes, seed, 3.0 if nodes > 3 else 2.0)
    if nodes == 3:
        pairs = [(0, 1), (0, 2), (1, 2)]
    lines = [f'[lab]\nname = "{name}"\nrouting = "ospf"\n']
    lines += [f'[[node]]\nname = "{generators.node_name(number)}"\n' for number in range(nodes)]
    for pair in pairs:
        ends = json.dumps([generators.node_name(number) for number in pair])
        lines.append(f"[[link]]\nends = {ends}\ncost = [{dice.randint(5, 20)}, {dice.randint(5, 20)}]\n")
    return "\n".join(lines)
