"""The process that keeps a lab: it makes the network, starts the units, and does what `qbb lab` asks for.

    python -m appliance.lab.keeper FILE        started by qbb lab up, which reads its progress from standard output

Units are its forks and die with it. It ends in order at SIGTERM. Progress lines are JSON: {"stage", "done", "total"},
{"error"}, and {"started"} when all units run. Commands of the control socket are the handlers of Keeper.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.configuration.errors import ConfigurationErrors
from appliance.devices.fibrewire import WireError
from appliance.lab import design, file, record, run
from appliance.lab.model import LabFile
from appliance.lab.network import Network
from appliance.lab.node import Node
from appliance.lab.process import Process
from appliance.lab.warm import WarmRun, warm_up
from appliance.services.control import ControlServer, Refused
from appliance.services.runtime import Loop

Arguments = dict[str, Any]
Handler = Callable[[Arguments], Any]
REAP_S = 1.0


class Progress:
    """Tells whoever started us, as long as that is still there."""

    def __init__(self) -> None:
        self._open = True
        self.done = 0

    def tell(self, **message: Any) -> None:
        try:
            if self._open:
                print(json.dumps(message), flush=True)
        except OSError:
            self._open = False

    def step(self, stage: str, total: int) -> None:
        self.done += 1
        self.tell(stage=stage, done=self.done, total=total)

    def finish(self) -> None:
        self.tell(started=True)
        self._open = False
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Keeper:
    """A running lab and what may be done to it."""

    def __init__(self, lab: LabFile, network: Network) -> None:
        self._lab, self._network = lab, network
        commands = (self.status, self.cut, self.mend, self.tap, self.rate, self.kill, self.restart)
        self.handlers = {command.__name__: _guarded(command) for command in commands}

    def status(self, arguments: Arguments) -> Any:
        """Of every process: its id, None when it does not run, and its exit status."""
        told = {}
        for name, node in self._network.nodes.items():
            told[name] = {unit: _state(process) for unit, process in node.units.items()}
        fibres = {name: _state(process) for name, process in self._network.fibres.items()}
        return {"nodes": told, "fibres": fibres}

    def _link(self, arguments: Arguments) -> tuple[str, list[str]]:
        """The link and its devices."""
        try:
            link = self._network.link(str(arguments.get("link")))
        except StopIteration:
            listed = ", ".join(link.name for link in self._lab.links)
            raise Refused(f"there is no link {arguments.get('link')}; links are {listed}") from None
        return link.name, [device.name for device in link.devices]

    def _units(self, arguments: Arguments) -> tuple[Node, list[str]]:
        node = self._network.nodes.get(str(arguments.get("node")))
        if node is None:
            raise Refused(f"there is no node {arguments.get('node')}; nodes are {', '.join(self._network.nodes)}")
        wanted = arguments.get("units") or list(node.units)
        for unit in wanted:
            if unit not in node.units:
                raise Refused(f"{node.name} has no unit {unit}; units are {', '.join(node.units)}")
        return node, wanted

    def cut(self, arguments: Arguments) -> Any:
        """what="cable": both channels; "wire": the classical one; "fibre": the quantum one."""
        link, devices = self._link(arguments)
        if arguments.get("what") != "fibre":
            self._network.cut(link)
        if arguments.get("what") != "wire":
            for device in devices:
                self._network.ask_fibre(device, "cut")
        return {"link": link}

    def mend(self, arguments: Arguments) -> Any:
        """Wire, fibres, and taps."""
        link, devices = self._link(arguments)
        self._network.mend(link)
        for device in devices:
            self._network.ask_fibre(device, "mend")
            self._network.ask_fibre(device, "tap", fraction=0)
        return {"link": link}

    def tap(self, arguments: Arguments) -> Any:
        link, devices = self._link(arguments)
        for device in devices:
            self._network.ask_fibre(device, "tap", fraction=arguments.get("fraction"))
        return {"link": link, "fraction": arguments.get("fraction")}

    def rate(self, arguments: Arguments) -> Any:
        """Key of all devices together, in bit/s: the light sources are made faster or slower."""
        link, devices = self._link(arguments)
        wanted_bps = float(arguments.get("rate_bps", 0)) / len(devices)
        for device in devices:
            now = self._network.ask_fibre(device, "status")
            if not now["expected_bps"]:
                raise Refused(f"no key comes over {device}: it is cut or tapped, or too long")
            self._network.ask_fibre(device, "speed", factor=now["speed"] * wanted_bps / now["expected_bps"])
        return {"link": link, "rate_bps": arguments.get("rate_bps")}

    def kill(self, arguments: Arguments) -> Any:
        """SIGKILL, all at once: as if the power were gone."""
        node, units = self._units(arguments)
        for unit in units:
            node.units[unit].signal(signal.SIGKILL)
        for unit in units:
            node.units[unit].kill()
        return {"node": node.name, "units": units}

    def restart(self, arguments: Arguments) -> Any:
        """Stops in order what runs, and starts."""
        node, units = self._units(arguments)
        node.stop(*units)
        node.start(*units)
        return {"node": node.name, "units": units}


def _guarded(command: Handler) -> Handler:
    """What a fibre or the kernel refuses is told to the one who asked."""

    def guarded(arguments: Arguments) -> Any:
        try:
            return command(arguments)
        except (OSError, WireError, TypeError, ValueError) as error:
            raise Refused(str(error)) from None

    return guarded


def _state(process: Process) -> dict[str, Any]:
    return {"pid": process.pid if process.running else None, "status": process.status}


def _reap(processes: list[Process]) -> None:
    for process in processes:
        _ = process.running


def keep(lab: LabFile) -> None:
    """Makes the lab, and serves until a signal ends it."""
    progress = Progress()
    own_routing = [node.name for node in lab.nodes if lab.routing == "ospf"]
    total = len(lab.nodes) + 1 + len(lab.links) + len(own_routing)

    def made(what: str, name: str) -> None:
        if what == "namespace" or name.startswith("fibre-"):
            progress.step("nodes" if what == "namespace" else "links", total)

    def started(process: Process) -> None:
        record.note_process(lab.name, process.pid, process.name)

    with WarmRun(made, started) as running:
        nodes = {node.name: str(running.directory / node.name) for node in lab.nodes}
        me = os.getpid()
        about = (str(Path(lab.source).resolve()), me, record.start_time(me) or 0, running.id, str(running.directory))
        record.write(record.Recorded(lab.name, *about, nodes))
        for name in own_routing:
            running.namespace(design.routing_namespace(name))
        network = Network(running, design.plan(lab, f"{run.PREFIX}{running.id}-"))
        processes = list(network.fibres.values())
        processes += [process for node in network.nodes.values() for process in node.units.values()]
        warm_up({process.command[2] for process in processes})
        for number, process in enumerate(processes, 1):
            process.start()
            progress.tell(stage="units", done=number, total=len(processes))
        loop = Loop()
        server = ControlServer(loop, record.control(lab.name), Keeper(lab, network).handlers, mode=0o600)
        loop.every(REAP_S, lambda: _reap(processes))
        progress.finish()
        loop.run()
        server.close()


def lock(name: str) -> int:
    """The lab's lock; raises BlockingIOError when another keeper has it."""
    run.LOCKS.mkdir(mode=0o700, exist_ok=True)
    record.place(name).mkdir(mode=0o700, exist_ok=True)
    fd = os.open(record.place(name) / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise
    return fd


def main(words: list[str] | None = None) -> int:
    path = (sys.argv[1:] if words is None else words)[0]
    try:
        lab = file.load(path)
    except ConfigurationErrors as errors:
        Progress().tell(error=str(errors))
        return 1
    try:
        held = lock(lab.name)
    except BlockingIOError:
        Progress().tell(error=f"lab {lab.name} runs already")
        return 1
    try:
        keep(lab)
    except OSError as error:
        Progress().tell(error=str(error))
        raise
    finally:
        record.sweep(lab.name)
        os.close(held)
    return 0


if __name__ == "__main__":
    sys.exit(main())
