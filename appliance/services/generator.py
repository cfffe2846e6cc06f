"""systemd.generator(7) of the node: which units run follows from the node file.

    qbb-generator NORMAL EARLY LATE        systemd calls it at boot and at each daemon-reload

It adds to qbb.target an instance of qbb-device@.service for each device, and routing with FRR where a link has a
network. Secrets that the node file names become credentials of the data plane; a device whose simulated fibre is across
the network gets the network; the keys service gets its hardware source. With a node file that is missing or wrong it
adds nothing: the units that run in any case say what is wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance import config
from appliance.config import LinkConfig, NodeConfig
from appliance.services.startup import DEFAULT_CONFIGURATION

UNITS = Path("/usr/lib/systemd/system")
TARGET = "qbb.target"
ROUTING = ("qbb-zebra.service", "qbb-ospfd.service", "qbb-routing.service")
NETWORK = """# The fibre of this device is across the network.
[Service]
PrivateNetwork=no
IPAddressDeny=
RestrictAddressFamilies=AF_INET AF_INET6
"""
# A random number generator is root's: its group becomes that of the unit.
HARDWARE_SOURCE = """# The keys service draws from {path}.
[Service]
PrivateDevices=no
DeviceAllow={path} r
ExecStartPre=+/usr/bin/chgrp qbb-keys {path}
ExecStartPre=+/usr/bin/chmod g+r {path}
"""


def generate(node: NodeConfig, folder: Path) -> None:
    """Raises OSError."""
    devices = [device for link in node.links for device in link.devices]
    for device in devices:
        _want(folder, f"qbb-device@{device.name}.service", "qbb-device@.service")
        if device.fibre.startswith("tcp:"):
            _write(folder / f"qbb-device@{device.name}.service.d" / "50-network.conf", NETWORK)
    if node.routed_links:
        for unit in ROUTING:
            _want(folder, unit, unit)
        networks = " ".join(str(link.network) for link in node.routed_links)
        _write(folder / "qbb-ospfd.service.d" / "50-networks.conf", f"[Service]\nIPAddressAllow=multicast {networks}\n")
    named = [link for link in node.links if link.secret is not None]
    if named:
        _write(folder / "qbb-dataplane.service.d" / "50-secrets.conf", _credentials(named))
    if (source := node.keys.hardware_source) is not None:
        text = HARDWARE_SOURCE.format(path=str(source).replace("%", "%%"))
        _write(folder / "qbb-keys.service.d" / "50-hardware-source.conf", text)


def _want(folder: Path, unit: str, template: str) -> None:
    wants = folder / f"{TARGET}.wants"
    wants.mkdir(exist_ok=True)
    (wants / unit).symlink_to(UNITS / template)


def _credentials(links: list[LinkConfig]) -> str:
    lines = [f"LoadCredential={config.credential(link)}:{str(link.secret).replace('%', '%%')}" for link in links]
    return "\n".join(["# The secrets that the node file names.", "[Service]", *lines, ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def main(words: list[str], source: Path = DEFAULT_CONFIGURATION) -> int:
    if not words:
        print("qbb-generator is called by systemd, with the folder to write to", file=sys.stderr)
        return 2
    if not source.exists():
        return 0
    try:
        generate(config.load(source), Path(words[0]))
    except config.ConfigurationErrors as errors:
        print(f"qbb-generator: {source} is wrong, so no device runs and no routing: qbb check says more. {errors}",
              file=sys.stderr)  # fmt: skip
    except OSError as error:
        print(f"qbb-generator: {error}", file=sys.stderr)
        return 1
    return 0
