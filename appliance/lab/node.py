"""One node of the lab: its units, what they say, its key clients."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

from appliance.client import Client
from appliance.lab.plan import NetworkPlan, SitePlan, configuration
from appliance.lab.process import Process, python
from appliance.lab.run import Run
from appliance.lab.waiting import LIMIT_S, until
from appliance.services.control import NoAnswer, ask

DATAPLANE, KEYS = "dataplane", "keys"


class Node:
    """`units` by name: dataplane, keys, device-NAME and those of the plan."""

    def __init__(self, run: Run, plan: NetworkPlan, site: SitePlan, fibres: Path) -> None:
        self.plan, self.site, self.name, self.address = plan, site, site.name, site.address
        self.directory = run.directory / site.name
        self.runtime, self.state = self.directory / "run", self.directory / "state"
        self.config = self.directory / "node.toml"
        for directory in (self.directory, self.runtime, self.state):
            directory.mkdir(mode=0o700)
        self.config.write_text(configuration(plan, site, self.state, self.runtime, run.directory, fibres))
        self.namespace = run.namespace(site.name)
        self._run = run
        self._disk = self._mount(site.disk_bytes) if site.disk_bytes else None
        self.units = {unit: self._unit(unit) for unit in self._names()}

    def _names(self) -> list[str]:
        devices = [f"device-{device.name}" for link in self.plan.links_of(self.name) for device in link.devices]
        return [DATAPLANE, KEYS, *self.site.units, *devices]

    def _unit(self, unit: str) -> Process:
        options = ["--config", str(self.config)]
        if unit.startswith("device-"):
            command = python("appliance.services.device", unit.removeprefix("device-"), *options)
        else:
            command = python(f"appliance.services.{unit}", *options)
        return self.process(unit, command)

    def process(self, name: str, command: list[str]) -> Process:
        """A program at this site; not started yet."""
        mounts = self._disk.pid if self._disk is not None else None
        return self._run.process(f"{self.name}-{name}", self.namespace, command, mounts)

    def _mount(self, size_bytes: int) -> Process:
        """A file system in memory over the state directory, seen by this node's programs alone: in the mount namespace
        of a process that does nothing else."""
        mount = f"mount -t tmpfs -o size={size_bytes} lab {self.state} && echo mounted && exec sleep infinity"
        holder = self._run.process(
            f"{self.name}-disk", self.namespace, ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount]
        )
        holder.start()
        until(lambda: "mounted" in holder.printed(), f"the disk of {self.name}: {holder.said()}")
        return holder

    @property
    def disk(self) -> Path:
        """The state directory as this node's programs see it."""
        return Path(f"/proc/{self._disk.pid}/root{self.state}") if self._disk is not None else self.state

    # Units -----------------------------------------------------------------------------------------------------------

    def start(self, *units: str) -> None:
        for unit in units or self.units:
            self.units[unit].start()

    def stop(self, *units: str) -> None:
        for unit in units or self.units:
            self.units[unit].stop()

    def wait_answers(self, *units: str, limit_s: float = LIMIT_S) -> None:
        """Until the units answer at their control sockets. Raises WaitedInVain with a unit's last words."""
        for unit in units or self.units:
            until(partial(self.answers, unit), partial(self._last_words, unit), limit_s)

    def _last_words(self, unit: str) -> str:
        return f"{self.units[unit].name} answers; it said {self.units[unit].said()}"

    def answers(self, unit: str) -> bool:
        try:
            return bool(self.ask(unit, "status"))
        except NoAnswer:
            return False

    def ask(self, unit: str, command: str, **arguments: Any) -> Any:
        """Raises NoAnswer and Refused."""
        return ask(self.runtime / f"{unit}.control", command, **arguments)

    def link(self, name: str = "") -> dict[str, Any]:
        """Status of a link, by default the first. Raises NoAnswer."""
        links: list[dict[str, Any]] = self.ask(DATAPLANE, "status")["links"]
        return next(link for link in links if name in ("", link["name"]))

    def usable(self, name: str = "") -> bool:
        """Does the link carry session keys? A silent data plane does not."""
        with contextlib.suppress(NoAnswer):
            return bool(self.link(name)["usable"])
        return False

    def serves(self) -> bool:
        """Does the keys service have its data plane? It connects again up to half a second after a restart."""
        with contextlib.suppress(NoAnswer):
            return bool(self.ask(KEYS, "status")["data_plane"])
        return False

    # Key clients -----------------------------------------------------------------------------------------------------

    @property
    def pfkey(self) -> Path:
        return self.runtime / "pfkey.sock"

    def client(self, timeout_s: float = 15.0) -> Client:
        """Raises OSError."""
        return Client(self.pfkey, timeout_s)

    def public_address(self) -> str:
        """Where the site's applications are reached: its end of its first link's wire."""
        return str(self.plan.host(self.plan.links_of(self.name)[0], self.name))
