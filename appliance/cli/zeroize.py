"""zeroize: the end of a node. All stored key and the link secrets are destroyed; the units must be down."""

from __future__ import annotations

import contextlib
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from appliance.cli.asking import Failed, unit_name
from appliance.cli.doomed import Doomed, Secret, doomed
from appliance.cli.output import BAD, Screen, size
from appliance.services import control

DM_CRYPT = "CRYPT-"  # how the device mapper's uuid of an encrypted volume begins
APPLIANCE_VAR = Path("/dev/disk/by-partlabel/qbb-var")  # of the appliance's image


def zeroize(screen: Screen, options: Namespace) -> int:
    """Needs no node file that loads: see doomed.py."""
    found = doomed(options.config)
    _refuse_while_running(found.runtime)
    if not options.yes and not _confirmed(found):
        screen.line("Nothing was destroyed.")
        return 1
    _refuse_while_running(found.runtime)  # somebody may have started one while we asked
    _refuse_while_open(found)
    destroyed = found.stored_bytes
    problems = _destroy(found)
    told: dict[str, Any] = {
        "node": found.node,
        "node_file_problem": found.trouble or None,
        "destroyed_bytes": destroyed,
        "stores": [str(store) for store in found.stores],
        "secrets": [str(secret.path) for secret in found.secrets],
        "problems": problems,
        "encrypted_disk": encrypted_disk(found.state),
    }
    screen.answer(told, lambda: _tell(screen, found, told))
    return 1 if problems else 0


def _refuse_while_running(runtime: Path) -> None:
    """A running data plane has key in memory, and would write more; so do keys service and devices."""
    for path in sorted(runtime.glob("*.control")):
        if path.stem not in ("dataplane", "keys") and not path.stem.startswith("device-"):
            continue
        with contextlib.suppress(control.NoAnswer):
            control.ask(path, "status")
            raise Failed(
                f"{unit_name(path.stem)} runs: nothing was destroyed", "systemctl stop qbb.target, then try again"
            )


def _refuse_while_open(found: Doomed) -> None:
    """A data plane that hangs answers nobody, and still has its stores."""
    from appliance.services.linkstore import LinkStore

    for directory in found.stores:
        try:
            LinkStore(directory).close()
        except BlockingIOError as error:
            words = f"{directory}: {error.strerror}: nothing was destroyed"
            raise Failed(words, "systemctl stop qbb.target, then try again") from None
        except OSError:
            continue  # told when it cannot be destroyed


def _confirmed(found: Doomed) -> bool:
    if not sys.stdin.isatty():
        raise Failed("zeroizing asks for confirmation, and nobody is at the terminal", "--yes says that you mean it")
    if found.trouble:
        print(_without_node_file(found))
    print(
        f"This destroys {size(found.stored_bytes)} of stored key of {len(found.stores)} links and "
        f"{len(found.secrets)} link secrets of node {found.node}. It cannot be undone."
    )
    return input(f"Type the node's name to go on [{found.node}]: ").strip() == found.node


def _without_node_file(found: Doomed) -> str:
    return (
        f"The node file cannot be used: {found.trouble}\n"
        f"So this is about the key stores in {found.key_stores} and the link secrets that are known of. What else the "
        "node file should name as a secret is yours to destroy."
    )


def _destroy(found: Doomed) -> list[str]:
    """Goes on after what cannot be destroyed. Returns what that was."""
    from appliance.native import blockfile, keymem  # the C part, which most commands do without
    from appliance.services.linkstore import LinkStore

    keymem.harden_process()
    problems = _burn(found)
    for directory in found.stores:
        try:
            store = LinkStore(directory)
            try:
                store.zeroize()
            finally:
                store.close()
        except OSError as error:
            problems.append(f"{directory}: {error.strerror}")
    for path in [secret.path for secret in found.secrets]:
        try:
            blockfile.destroy_file(path)
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
    return problems


def _burn(found: Doomed) -> list[str]:
    """The record of what was loaded stays, so that no copy of a secret is loaded a second time. Returns problems."""
    from appliance.services.loadedsecrets import LoadedSecrets

    if not found.key_stores.is_dir():
        return []  # nothing was ever loaded
    try:
        record = LoadedSecrets(found.key_stores)
        for secret in found.secrets:
            if (number := _id(secret)) is not None:
                record.burn(number, secret.link)
    except OSError as error:
        return [f"{found.key_stores}: {error.strerror}"]
    return []


def _id(secret: Secret) -> int | None:
    """None where it is damaged or encrypted."""
    from appliance.native import linksecret
    from appliance.services.linkstore import secret_id

    try:
        key, block, _ = linksecret.read(secret.path)
    except OSError:
        return None
    number = secret_id(key)
    key.close()
    block.close()
    return number


def encrypted_disk(directory: Path) -> str | None:
    """The name of the dm-crypt volume that holds the directory; None when it is on none."""
    with contextlib.suppress(OSError):
        device = directory.stat().st_dev
        mapped = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/dm")
        if (mapped / "uuid").read_text().startswith(DM_CRYPT):
            return (mapped / "name").read_text().strip()
    return None


def _tell(screen: Screen, found: Doomed, told: dict[str, Any]) -> None:
    if found.trouble:
        screen.line(_without_node_file(found), BAD)
    for problem in told["problems"]:
        screen.line(f"could not be destroyed: {problem}", BAD)
    done = f"{size(told['destroyed_bytes'])} of key in {len(found.stores)} stores and {len(found.secrets)} link secrets"
    screen.line(f"Node {found.node}: {done} overwritten and removed. The audit log was kept.")
    screen.line("A link secret that was carried here by a stick, or stays at the other end, is to be destroyed too.")
    _tell_of_disk(screen, told["encrypted_disk"])


def _tell_of_disk(screen: Screen, encrypted: str | None) -> None:
    if encrypted is None:
        screen.line("Flash memory may keep old copies of what was overwritten, and this disk is not encrypted:", BAD)
        screen.line("destroy the disk, or use its own secure erase.", BAD)
        return
    screen.line("Flash memory may keep old copies of what was overwritten. The disk is encrypted: make the whole of it")
    if APPLIANCE_VAR.exists():
        screen.line(f"unreadable, for good, with `cryptsetup erase {APPLIANCE_VAR}`. Then switch the machine off.")
    else:
        screen.line(f"unreadable with `cryptsetup erase` on the device under {encrypted}.")
