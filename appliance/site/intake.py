"""Taking in a node file and secrets.

They are offered in a folder: that of the unit's credentials, a memory stick, or what was typed at the console. Names:

    node.toml, or qbb.node     the node file
    qbb.link.NAME              the secret of the link NAME, as `qbb link secret` made it

Kept is what is good: the node file if it has no problem and is for this machine, a secret if it is one. They go to a
new file that takes the old one's place only when it is whole and on the disk.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance import config
from appliance.config import NodeConfig
from appliance.native import linksecret
from appliance.site.identity import Identity
from appliance.site.report import Report

NODE_NAMES = ("node.toml", "qbb.node")
SECRETS = "qbb.link."
LONGEST_NODE_BYTES = 1 << 20
MEND = "Write it anew and offer it again: on a memory stick with the label QBB-NODE, or typed here (key n)"


@dataclass(frozen=True)
class Kept:
    """Where what was taken in is, across boots."""

    folder: Path = Path("/var/lib/site")

    @property
    def node(self) -> Path:
        return self.folder / "qbb" / "node.toml"

    @property
    def secrets(self) -> Path:
        return self.folder / "credstore"


def take_in(offered: Path, kept: Kept, machine: Identity, report: Report) -> NodeConfig | None:
    """Takes what is good from `offered`. The node file that was taken; None when none was."""
    for secret in sorted(offered.glob(f"{SECRETS}*")):
        _take_secret(secret, kept, report)
    for path in (offered / name for name in NODE_NAMES):
        if path.is_file():
            return _take_node(path, kept, machine, report)
    return None


def is_empty(offered: Path, report: Report) -> bool:
    """Has somebody brought nothing that could be taken in? Tells so."""
    if any(offered.glob(f"{SECRETS}*")) or any((offered / name).is_file() for name in NODE_NAMES):
        return False
    report.trouble(f"In {offered} is neither a node file nor a link's secret",
                   "Name the node file node.toml and a secret qbb.link.NAME, in no folder")  # fmt: skip
    return True


def standing(kept: Kept, machine: Identity, report: Report) -> NodeConfig | None:
    """The node file that is kept. Tells what is wrong with it."""
    if not kept.node.exists():
        report.trouble("This machine has no node file", "Offer one: on a memory stick with the label QBB-NODE as "
                       "node.toml, as the credential qbb.node, or typed here (key n)")  # fmt: skip
        return None
    return _good(kept.node, machine, report)


def _take_node(path: Path, kept: Kept, machine: Identity, report: Report) -> NodeConfig | None:
    node = _good(path, machine, report)
    if node is not None:
        _put(path, kept.node, 0o644, report)
        report.source = str(path.parent)
    return node


def _good(path: Path, machine: Identity, report: Report) -> NodeConfig | None:
    """The file read, when nothing is wrong with it."""
    try:
        if path.stat().st_size > LONGEST_NODE_BYTES:
            report.trouble(f"{path} is longer than a node file can be", MEND)
            return None
        node = config.load(path)
    except config.ConfigurationErrors as errors:
        for problem in errors.problems:
            report.trouble(str(problem), MEND)
        return None
    except OSError as error:
        report.trouble(f"{path} cannot be read: {error.strerror}", MEND)
        return None
    wanted = node.site.machine
    if wanted is not None and not machine.is_called(wanted):
        report.trouble(f"{path} is for another machine, {wanted}; this one is {machine}",
                       "Bring the file of this machine, or set site.machine in it to this UUID")  # fmt: skip
        return None
    return node


def _take_secret(path: Path, kept: Kept, report: Report) -> None:
    try:
        for memory in linksecret.read(path)[:2]:
            memory.close()
    except OSError as error:
        report.trouble(f"{path.name} ({path.stat().st_size} bytes) cannot be a link's secret: {error.strerror}",
                       "Make one with qbb link secret, bring it to both ends, and keep it as it is")  # fmt: skip
        return
    _put(path, kept.secrets / path.name, 0o600, report)


def _put(source: Path, target: Path, mode: int, report: Report) -> None:
    """By install(1): what a secret says never is in this program."""
    new = target.with_suffix(target.suffix + ".new")
    try:
        target.parent.mkdir(mode=0o755 if mode & 0o044 else 0o700, parents=True, exist_ok=True)
        subprocess.run(["install", f"--mode={mode:o}", source, new], check=True, capture_output=True)
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        report.trouble(f"{target} could not be written: {error}", "See whether the disk is full or failing: "
                       "journalctl -k -p warning, and df /var")  # fmt: skip


def missing_secrets(node: NodeConfig, kept: Kept, credentials: tuple[Path, ...]) -> Iterator[str]:
    """Links whose secret is nowhere."""
    for link in node.links:
        name = f"{SECRETS}{link.name}"
        places = [*(folder / name for folder in (kept.secrets, *credentials)), *([link.secret] if link.secret else [])]
        if not any(place.exists() for place in places):
            yield link.name
