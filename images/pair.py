"""Two appliances in virtual machines, paris and vienna: a network cable and a simulated fibre of 10 km join them.

Each has a second network card to this machine, as it were the site's management network: by it one logs in, and the
device reaches its end of the fibre, which is a process of this machine.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.devices.fibrewire import WireError, ask
from appliance.native import linksecret
from images.keys import Keys
from images.vm import HOST, Machine, Wire

NAMES = ("paris", "vienna")
LINK, FIBRE = "line", "fibre-1"
SECRET_BYTES = 8192
NODE = """[node]
name = "{name}"
address = "{address}"

[[link]]
name = "{link}"
peer = "{peer}"
listen = "{host}:7301"
remote = "{neighbour}:7301"
key_rate_bps = "100 kbit/s"
chunk_bytes = "16 KiB"
high_mark_bytes = "64 KiB"
keepalive_s = 10

[[link.device]]
name = "{fibre}"
fibre = "tcp:{fibre_host}:{fibre_port}"

[[keys.client]]
name = "administrator"
user = "root"

[site]
machine = "{machine}"
ssh_keys = [{ssh_keys}]
let_in = ["icmp", "esp"]

[[site.interface]]
name = "line"
mac = "{mac}"
addresses = ["{host}/24"]

[[site.interface]]
name = "management"
mac = "{management}"
dhcp = true
"""


class Pair:
    """Raises CannotBuild, OSError where something is wrong with this machine."""

    def __init__(self, folder: Path, image: Path, keys: Keys, ssh_key: str = "", ports: tuple[int, int] = (0, 0),
                 credentials: dict[str, bytes] | None = None, **machine: Any) -> None:  # fmt: skip
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.fibre_port = free_port()
        self._fibre: subprocess.Popen[bytes] | None = None
        wires = Wire.pair(folder, "wire")
        self.machines = tuple(
            Machine(name, folder / name, image, keys, wires=(wire,), management=port, **machine)
            for name, wire, port in zip(NAMES, wires, ports, strict=True)
        )
        secret = folder / "link.secret"
        if not secret.exists():
            linksecret.make(secret, SECRET_BYTES)
        for index, own in enumerate(self.machines):
            own.credentials = {
                **(credentials or {}),
                "qbb.node": self.node_file(index, ssh_key).encode(),
                f"qbb.link.{LINK}": secret,
            }

    def node_file(self, index: int, ssh_key: str = "") -> str:
        own = self.machines[index]
        return NODE.format(
            name=own.name,
            address=f"1.1.1.{index + 1}",
            peer=f"1.1.1.{2 - index}",
            host=self.address(index),
            neighbour=self.address(1 - index),
            link=LINK,
            fibre=FIBRE,
            fibre_host=HOST,
            fibre_port=self.fibre_port,
            machine=own.uuid,
            ssh_keys=f'"{ssh_key}"' if ssh_key else "",
            mac=own.mac(0),
            management=own.mac(-1),
        )

    def address(self, index: int) -> IPv4Address:
        """Of a machine, on the cable."""
        return IPv4Address("192.0.2.1") + index

    @property
    def fibre(self) -> str:
        return f"tcp:127.0.0.1:{self.fibre_port}"

    def start_fibre(self) -> None:
        log = (self.folder / "fibre.log").open("ab")
        words = ["--socket", self.fibre, "--distance-km", "10", "--speed", "20"]
        self._fibre = subprocess.Popen(
            [sys.executable, "-m", "appliance.devices.fibre", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, WireError, ValueError):
                ask(self.fibre, "status")
                return
            if self._fibre.poll() is not None or time.monotonic() > end:
                raise OSError(f"the fibre did not start: {(self.folder / 'fibre.log').read_text()[-500:]}")
            time.sleep(0.1)

    def start(self) -> None:
        self.start_fibre()
        for own in self.machines:
            own.start()

    def kill(self) -> None:
        for own in self.machines:
            own.kill()
        if self._fibre is not None:
            self._fibre.kill()
            self._fibre.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
