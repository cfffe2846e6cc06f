"""Nodes with the real routing unit and real FRR, each in a network namespace. Between them, in place of the data planes
and their links, a forwarder: it serves each node's routing.sock and hands packets to the other end of the link."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.lab import namespaces
from appliance.network.errors import RemoteProtocolError
from appliance.routing import port
from appliance.routing.port import Assembly, TableEntry
from appliance.services import control
from appliance.services.runtime import Loop

PATIENCE_S = 90.0


@dataclass
class Link:
    """As one node sees it. `cost` may be "derived"."""

    peer: str
    network: str
    area: str
    cost: int | str = 10


@dataclass
class Node:
    name: str
    address: str
    area: str
    role: str = "qbb"
    links: list[Link] = field(default_factory=list)


def connect(a: Node, b: Node, network: str, area: str, costs: tuple[int | str, int | str]) -> None:
    a.links.append(Link(b.name, network, area, costs[0]))
    b.links.append(Link(a.name, network, area, costs[1]))


class Forwarder:
    """All nodes' data planes, as far as routing sees them."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._loop = lab, Loop()
        self._connections: dict[str, socket.socket] = {}
        self._assemblies: dict[str, Assembly] = {}
        self.tables: dict[str, list[TableEntry]] = {}
        self.down: set[frozenset[str]] = set()  # links that Q3P has down
        self.silent: set[frozenset[str]] = set()  # links that lose everything, and nobody knows
        self.rate_bps: dict[tuple[str, str], float] = {}
        self.packets = 0
        self._listeners = {name: self._listen(name) for name in lab.nodes}
        self._loop.every(1.0, self._push_all)
        self._stop = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _listen(self, name: str) -> socket.socket:
        listener = control.listen(self._lab.folder(name) / "routing.sock", socket.SOCK_SEQPACKET, 0o660)
        self._loop.watch(listener.fileno(), lambda events: self._accept(name))
        return listener

    def _run(self) -> None:
        while not self._stop:
            self._loop.turn(0.05)

    def _accept(self, name: str) -> None:
        connection, _ = self._listeners[name].accept()
        connection.setblocking(False)
        self._connections[name] = connection
        self._assemblies[name] = Assembly(len(self._lab.nodes[name].links))
        self._loop.watch(connection.fileno(), lambda events: self._ready(name, connection))
        self.push(name)

    def _ready(self, name: str, connection: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while message := self._receive(connection):
                packet = port.split_packet(message)
                if packet is not None:
                    self.forward(name, *packet)
                elif (table := self._assemblies[name].add(port.parse_text(message))) is not None:
                    self.tables[name] = table
            self._loop.forget(connection.fileno())
            connection.close()
            if self._connections.get(name) is connection:
                del self._connections[name]

    @staticmethod
    def _receive(connection: socket.socket) -> bytes:
        try:
            return connection.recv(port.MESSAGE_BYTES)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def forward(self, name: str, index: int, packet: bytes) -> None:
        """From a node, by its link, to the other end."""
        link = self._lab.nodes[name].links[index]
        pair = frozenset((name, link.peer))
        back = next(i for i, other in enumerate(self._lab.nodes[link.peer].links) if other.network == link.network)
        if pair in self.down or pair in self.silent:
            return
        self.packets += 1
        self.inject(link.peer, back, packet)

    def inject(self, name: str, index: int, packet: bytes) -> None:
        """To a node, as if it came by the link."""
        connection = self._connections.get(name)
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.send(port.pack_packet(index, packet))

    def push(self, name: str) -> None:
        links = [
            {
                "name": f"to-{link.peer}",
                "index": index,
                "peer": self._lab.nodes[link.peer].address,
                "usable": frozenset((name, link.peer)) not in self.down,
                "rate_bps": self.rate_bps.get((name, link.peer), 10_000.0),
                "stored_bytes": 0,
            }
            for index, link in enumerate(self._lab.nodes[name].links)
        ]
        with contextlib.suppress(OSError, KeyError):
            self._connections[name].send(json.dumps({"type": "links", "links": links}).encode())

    def _push_all(self) -> None:
        for name in list(self._connections):
            self.push(name)

    def set_down(self, a: str, b: str, down: bool) -> None:
        """Q3P tells both ends, as it does."""
        (self.down.add if down else self.down.discard)(frozenset((a, b)))
        self.push(a)
        self.push(b)

    def close(self) -> None:
        self._stop = True
        self._thread.join()
        for one in (*self._listeners.values(), *self._connections.values()):
            one.close()


class Lab:
    def __init__(self, folder: Path, nodes: list[Node], hello_s: int = 1, hold_s: float = 0.5) -> None:
        self._folder, self._hello_s, self._hold_s = folder, hello_s, hold_s
        self.nodes = {node.name: node for node in nodes}
        self._mark = f"qrt{os.getpid()}"
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.forwarder: Forwarder | None = None

    def folder(self, name: str) -> Path:
        return self._folder / name

    def namespace(self, name: str) -> str:
        return f"{self._mark}-{name}"

    def configuration(self, name: str) -> Path:
        node = self.nodes[name]
        lines = [
            f'[node]\nname = "{self.namespace(name)}"\naddress = "{node.address}"',
            f'state_directory = "{self.folder(name)}/state"\nruntime_directory = "{self.folder(name)}"',
            f'[routing]\nrole = "{node.role}"\narea = "{node.area}"\nhello_interval_s = {self._hello_s}',
            f'hold_s = {self._hold_s}\ndamping_half_life_s = 0\nnamespace = "{self.namespace(name)}"',
        ]
        for number, link in enumerate(node.links):
            cost = json.dumps(link.cost)
            lines.append(
                f'[[link]]\nname = "to-{link.peer}"\npeer = "{self.nodes[link.peer].address}"\n'
                f'listen = "192.0.2.1:{7301 + number}"\nremote = "192.0.2.2:7301"\n'
                f'network = "{link.network}"\narea = "{link.area}"\ncost = {cost}'
            )
        path = self.folder(name) / "node.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    def __enter__(self) -> Lab:
        try:
            for name in self.nodes:
                self.folder(name).mkdir()
                self.configuration(name)
            self.forwarder = Forwarder(self)
            for name in self.nodes:
                for unit in ("frr", "routing"):
                    self.start(name, unit)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.forwarder is not None:
            self.forwarder.close()
        for name in self.nodes:
            namespaces.remove(self.namespace(name))
            shutil.rmtree(Path("/run/frr") / self.namespace(name), ignore_errors=True)

    def start(self, name: str, unit: str, code: str = "") -> None:
        """The unit, or other code in its place."""
        config = str(self.folder(name) / "node.toml")
        program = ["-c", code] if code else ["-m", f"appliance.services.{unit}"]
        command = [sys.executable, *program, "--config", config]
        with (self.folder(name) / f"{unit}.log").open("ab") as log:
            self._processes[name, unit] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self, name: str, unit: str, kill: bool = False) -> None:
        process = self._processes.pop((name, unit))
        (process.kill if kill else process.terminate)()
        process.wait(15)

    def daemon(self, name: str, program: str) -> int:
        """Process id of a node's zebra or ospfd."""
        for pid in namespaces.processes(self.namespace(name)):
            with contextlib.suppress(OSError):  # ended meanwhile
                if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                    return pid
        raise AssertionError(f"{name} has no {program}")

    def log(self, name: str, unit: str) -> str:
        return (self.folder(name) / f"{unit}.log").read_text()

    def ask(self, name: str, command: str) -> Any:
        return control.ask(self.folder(name) / "routing.control", command)

    def routes(self, name: str) -> dict[str, dict[str, Any]]:
        """By destination, and for nodes by their names."""
        names = {node.address: node.name for node in self.nodes.values()}
        found = self.ask(name, "routes")["routes"]
        return {names.get(route["destination"], route["destination"]): route for route in found}

    def entries(self, name: str, destination: str) -> list[tuple[str, int]]:
        """(next node, cost) of each entry; empty when there is no route."""
        route = self.routes(name).get(destination, {"entries": []})
        return [(entry["link"].removeprefix("to-"), entry["cost"]) for entry in route["entries"]]

    def wait(self, what: str, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
        """Until it does; how long that took. A unit that does not answer yet is asked again."""
        began = time.monotonic()
        self.wait_for(what, holds, patience_s)
        return time.monotonic() - began

    def wait_for(self, what: str, says: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """What it says, once it says something."""
        end = time.monotonic() + patience_s
        seen: object = None
        while time.monotonic() < end:
            with contextlib.suppress(control.NoAnswer):
                if seen := says():
                    return seen
            time.sleep(0.02)
        raise AssertionError(f"{what}: not within {patience_s} s, but {seen!r}\n{self._report()}")

    def _report(self) -> str:
        logs = [f"--- {name} {unit}\n{self.log(name, unit)[-1500:]}" for name, unit in self._processes]
        return "\n".join(logs)

    @contextlib.contextmanager
    def registry(self, name: str) -> Iterator[Registry]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(60)
            connection.connect(str(self.folder(name) / "registry.sock"))
            yield Registry(connection)


class Registry:
    """A keys service's end of registry.sock."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self._connection.send(json.dumps(message).encode())
        reply: dict[str, Any] = json.loads(self._connection.recv(1 << 16))
        return reply

    def register(self, port_number: int, name: str = "", **more: Any) -> dict[str, Any]:
        return self._ask({"type": "register", "port": port_number, "name": name, **more})

    def unregister(self, port_number: int, name: str = "") -> None:
        self._connection.send(json.dumps({"type": "unregister", "port": port_number, "name": name}).encode())

    def find(self, **wanted: Any) -> list[dict[str, Any]]:
        reply = self._ask({"type": "find", "id": 7, **wanted})
        assert (reply["type"], reply["id"]) == ("found", 7)
        found: list[dict[str, Any]] = reply["applications"]
        return found


__all__ = ["Lab", "Link", "Node", "RemoteProtocolError", "connect"]
