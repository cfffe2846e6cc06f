"""Two machines joined by a wire and a simulated fibre, with the package installed: the smallest network of real units.

paris ---- wire ---- vienna        link "vienna" at paris, link "paris" at vienna, device fibre-1 at both
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appliance.client import Client
from appliance.lab import Run, until
from appliance.lab import namespaces as netns
from appliance.lab.process import WITH_US
from appliance.services.control import NoAnswer, ask

from .machine import Machine

FIBRE = "/shared/fibre.sock"
ENDS = {"paris": ("1.1.0.1", "10.77.0.1"), "vienna": ("1.1.0.5", "10.77.0.2")}
READY_S = 300.0


class Site:
    """A machine as applications and operators see it, from outside."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.name = machine, machine.name
        self.address, self._host = ENDS[machine.name]

    def client(self, timeout_s: float = 20.0) -> Client:
        """Raises OSError."""
        return Client(self.machine.path("/run/qbb/pfkey.sock"), timeout_s)

    def public_address(self) -> str:
        return self._host

    def link(self) -> dict[str, Any]:
        """Of the data plane's status; empty when it does not answer."""
        try:
            links: list[dict[str, Any]] = ask(self.machine.path("/run/qbb/dataplane.control"), "status")["links"]
        except NoAnswer:
            return {}
        return links[0]

    def serves(self) -> bool:
        """Does the keys service have its data plane?"""
        try:
            return bool(ask(self.machine.path("/run/qbb/keys.control"), "status")["data_plane"])
        except NoAnswer:
            return False


class Pair:
    """`package`: the .deb. Everything goes at the end of the run."""

    def __init__(self, run: Run, tree: Path, package: Path) -> None:
        self.package = package
        self.machines = {name: Machine(run, name, tree) for name in ENDS}
        self.paris, self.vienna = self.machines.values()
        self._sites = {name: Site(machine) for name, machine in self.machines.items()}
        netns.wire("eth0", *((machine.namespace, ENDS[name][1]) for name, machine in self.machines.items()))
        self._folder = run.directory
        self._fibre: subprocess.Popen[bytes] | None = None
        run.at_end(self._stop_fibre)

    def node(self, name: str) -> Site:
        return self._sites[name]

    def start(self) -> None:
        """Both nodes up, their packages installed and started; not ready yet."""
        self.start_fibre()
        for name, machine in self.machines.items():
            quiet(machine)
            machine.stage.joinpath("root").mkdir(mode=0o700)
            machine.stage.joinpath("root/qbb.deb").write_bytes(self.package.read_bytes())
            machine.start()
            machine.run("dpkg", "-i", "/root/qbb.deb")
            self.provision(name)
        # The watch of the node file does it as well, when it is up: this is what an administrator would type.
        self.each(lambda machine: machine.run("systemctl", "daemon-reload"))
        self.each(lambda machine: machine.run("systemctl", "start", "qbb.target"))

    def wait_ready(self) -> None:
        """Until both links carry keys, and the keys services have their data planes."""
        for site in self._sites.values():
            until(lambda site=site: site.link().get("usable"), lambda site=site: self.told(site), READY_S)
            until(site.serves, lambda site=site: f"the keys service of {self.told(site)}", READY_S)

    def accepted(self, name: str) -> int:
        """Blocks that the data plane took from the device, since the device's unit started."""
        path = self.machines[name].path("/run/qbb/device-fibre-1.control")
        return int(ask(path, "status")["blocks_accepted"])

    def told(self, site: Site) -> str:
        return f"link of {site.name} usable: {site.link()} {site.machine.journal('-n', '30')}"

    def provision(self, name: str) -> None:
        """The secret as a credential, then the node file."""
        machine = self.machines[name]
        secret = self.secret()
        peer = peer_of(name)
        stored = machine.path(f"/etc/credstore/qbb.link.{peer}")
        stored.parent.mkdir(mode=0o700, exist_ok=True)
        stored.touch(mode=0o600)
        stored.write_bytes(secret.read_bytes())
        machine.path("/etc/qbb/node.toml").write_text(node_file(name))

    def secret(self) -> Path:
        path = self._folder / "link.secret"
        if not path.exists():
            self.paris.run("qbb", "link", "secret", "--out", "/shared/link.secret")
            (self.paris.shared / "link.secret").rename(path)
        return path

    def start_fibre(self) -> None:
        """One process on this side; both machines see its socket."""
        socket = self._folder / "fibre.sock"
        command = [sys.executable, "-m", "appliance.devices.fibre", "--socket", f"unix:{socket}", "--distance-km", "10",
                   "--speed", "200", "--interval-s", "0.2"]  # fmt: skip
        with (self._folder / "fibre.log").open("ab") as log:
            self._fibre = subprocess.Popen([*WITH_US, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(socket.exists, lambda: (self._folder / "fibre.log").read_text())
        socket.chmod(0o666)
        for machine in self.machines.values():
            (machine.shared / "fibre.sock").unlink(missing_ok=True)
            (machine.shared / "fibre.sock").hardlink_to(socket)

    def _stop_fibre(self) -> None:
        if self._fibre is not None:
            self._fibre.terminate()
            self._fibre.wait()

    def each(self, act: Callable[[Machine], object]) -> None:
        for machine in self.machines.values():
            act(machine)


def peer_of(name: str) -> str:
    return next(other for other in ENDS if other != name)


def node_file(name: str) -> str:
    (address, host), peer = ENDS[name], peer_of(name)
    return f"""[node]
name = "{name}"
address = "{address}"

[[link]]
name = "{peer}"
peer = "{ENDS[peer][0]}"
listen = "{host}:7301"
remote = "{ENDS[peer][1]}:7301"
network = "1.1.1.0/30"
key_rate_bps = "200 kbit/s"
chunk_bytes = "8 KiB"
keepalive_s = "1 s"

[[link.device]]
name = "fibre-1"
fibre = "unix:{FIBRE}"

[[keys.client]]
name = "root"
user = "root"
"""


def quiet(machine: Machine) -> None:
    """FRR's own unit is not wanted: the node has units of its own for zebra and ospfd."""
    units = machine.stage / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "frr.service").symlink_to("/dev/null")
