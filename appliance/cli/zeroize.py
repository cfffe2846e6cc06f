"""zeroize: the end of a node. All stored key and the link secrets are destroyed; the units must be down."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import config
from appliance.cli.asking import Failed, Node, unit_name
from appliance.cli.output import BAD, Screen, size
from appliance.services import control

CREDSTORES = (Path("/etc/credstore"), Path("/etc/credstore.encrypted"))  # systemd.exec(5), ImportCredential=
DM_CRYPT = "CRYPT-"  # how the device mapper's uuid of an encrypted volume begins


@dataclass(frozen=True)
class Doomed:
    """What will be destroyed: the directory of each link that has one, the link secrets that are there."""

    stores: tuple[Path, ...]
    secrets: tuple[Path, ...]

    @property
    def stored_bytes(self) -> int:
        return sum(file.stat().st_size for store in self.stores for file in store.glob("blocks/*"))


def doomed(node: config.NodeConfig) -> Doomed:
    """Stores of links that the configuration no longer has are destroyed too; secrets are known by it alone."""
    root = node.link_state("x").parent
    stores = tuple(sorted(path for path in root.iterdir() if path.is_dir())) if root.is_dir() else ()
    secrets = {path for link in node.links if (path := config.secret_path(link)) is not None}
    secrets |= {store / config.credential(link) for link in node.links for store in CREDSTORES}
    return Doomed(stores, tuple(sorted(path for path in secrets if path.exists())))


def zeroize(node: Node, screen: Screen, options: Namespace) -> int:
    _refuse_while_running(node.config)
    found = doomed(node.config)
    if not options.yes and not _confirmed(node.config, found):
        screen.line("Nothing was destroyed.")
        return 1
    _refuse_while_running(node.config)  # somebody may have started one while we asked
    destroyed = found.stored_bytes
    problems = _destroy(node.config, found)
    told: dict[str, Any] = {
        "node": node.config.name,
        "destroyed_bytes": destroyed,
        "stores": [str(store) for store in found.stores],
        "secrets": [str(secret) for secret in found.secrets],
        "problems": problems,
        "encrypted_disk": encrypted_disk(node.config.state_directory),
    }
    screen.answer(told, lambda: _tell(screen, node.config, found, told))
    return 1 if problems else 0


def _refuse_while_running(node: config.NodeConfig) -> None:
    """A running data plane has key in memory, and would write more."""
    devices = [f"device-{device.name}" for link in node.links for device in link.devices]
    for unit in ("dataplane", "keys", *devices):
        with contextlib.suppress(control.NoAnswer):
            control.ask(node.control_socket(unit), "status")
            raise Failed(f"{unit_name(unit)} runs: nothing was destroyed", "systemctl stop qbb.target, then try again")


def _confirmed(node: config.NodeConfig, found: Doomed) -> bool:
    if not sys.stdin.isatty():
        raise Failed("zeroizing asks for confirmation, and nobody is at the terminal", "--yes says that you mean it")
    print(
        f"This destroys {size(found.stored_bytes)} of stored key of {len(found.stores)} links and "
        f"{len(found.secrets)} link secrets of node {node.name}. It cannot be undone."
    )
    return input(f"Type the node's name to go on [{node.name}]: ").strip() == node.name


def _destroy(node: config.NodeConfig, found: Doomed) -> list[str]:
    """Goes on after what cannot be destroyed. Returns what that was."""
    from appliance.native import blockfile, keymem, linksecret  # the C part, which most commands do without
    from appliance.services.linkstore import LinkStore

    keymem.harden_process()
    secret_of = {node.link_state(link.name): config.secret_path(link) for link in node.links}
    problems: list[str] = []
    for directory in found.stores:
        key = None
        if (path := secret_of.get(directory)) in found.secrets and path is not None:
            with contextlib.suppress(OSError):  # damaged: there is nothing to burn
                key, block, _ = linksecret.read(path)
                block.close()
        try:
            store = LinkStore(directory)
            try:
                store.zeroize(key)
            finally:
                store.close()
        except OSError as error:
            problems.append(f"{directory}: {error.strerror}")
        finally:
            if key is not None:
                key.close()
    for secret in found.secrets:
        try:
            folder = os.open(secret.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                blockfile.destroy(folder, secret.name)
            finally:
                os.close(folder)
        except OSError as error:
            problems.append(f"{secret}: {error.strerror}")
    return problems


def encrypted_disk(directory: Path) -> str | None:
    """The name of the dm-crypt volume that holds the directory; None when it is on none."""
    with contextlib.suppress(OSError):
        device = directory.stat().st_dev
        mapped = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/dm")
        if (mapped / "uuid").read_text().startswith(DM_CRYPT):
            return (mapped / "name").read_text().strip()
    return None


def _tell(screen: Screen, node: config.NodeConfig, found: Doomed, told: dict[str, Any]) -> None:
    for problem in told["problems"]:
        screen.line(f"could not be destroyed: {problem}", BAD)
    done = f"{size(told['destroyed_bytes'])} of key in {len(found.stores)} stores and {len(found.secrets)} link secrets"
    screen.line(f"Node {node.name}: {done} overwritten and removed. The audit log was kept.")
    screen.line("A link secret that was carried here by a stick, or stays at the other end, is to be destroyed too.")
    if told["encrypted_disk"]:
        screen.line(
            "Flash memory may keep old copies of what was overwritten. Its disk is encrypted: make the whole of"
        )
        screen.line(f"it unreadable with `cryptsetup erase` on the device under {told['encrypted_disk']}.")
    else:
        screen.line("Flash memory may keep old copies of what was overwritten, and this disk is not encrypted:", BAD)
        screen.line("destroy the disk, or use its own secure erase.", BAD)
