"""Taking in a node file and secrets.

They are offered in a folder: that of the unit's credentials, a memory stick, or what was typed at the console. Names:

    node.toml, or qbb.node     the node file
    qbb.link.NAME              the secret of the link NAME, as `qbb link secret` made it

Kept is what is good: the node file if it has no problem and is for this machine, a secret if it is one. They go to a
new file that takes the old one's place only when it is whole and on the disk, and only if who offers it may replace the
old one (warrant.py). What is left of such a file, by a full disk or a power cut, is destroyed: it may be a secret.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance import config
from appliance.config import NodeConfig
from appliance.native import blockfile, linksecret
from appliance.site.identity import Identity
from appliance.site.report import Report
from appliance.site.warrant import SIGNATURE, Warrant, how_to_sign, is_signed

NODE_NAMES = ("node.toml", CREDENTIAL := "qbb.node")
SECRETS = "qbb.link."
NEW = ".new"  # no link can have a name with a dot
LONGEST_BYTES = 1 << 20
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

    @property
    def taken(self) -> Path:
        """Digests of all that was ever taken in."""
        return self.folder / "taken.sha256"

    def was_taken(self, path: Path) -> bool:
        return self.taken.exists() and _digest(path) in self.taken.read_text().split()


def take_in(offered: Path, kept: Kept, machine: Identity, report: Report, warrant: Warrant) -> NodeConfig | None:
    """Takes what is good from `offered`. The node file that was taken; None when none was."""
    for secret in _secrets(offered):
        _take_secret(secret, kept, report, warrant)
    for path in (offered / name for name in NODE_NAMES):
        if path.is_file():
            return _take_node(path, kept, machine, report, warrant)
    return None


def take_credential(offered: Path, kept: Kept, machine: Identity, report: Report) -> NodeConfig | None:
    """The node file that a unit's credentials bring, once: what replaced it since stands, though the machine's owner
    still offers it at each boot. A new one replaces what is kept: who gives it has the machine in his hands."""
    path = offered / CREDENTIAL
    if not path.is_file():
        return None
    if kept.node.exists() and kept.was_taken(path):
        return None
    return _take_node(path, kept, machine, report, Warrant(proved=True))


def bring(offered: Path, folder: Path, report: Report) -> None:
    """Copies what could be taken in to a folder of ours: a stick may say something else when it is asked again. Tells
    when there is nothing."""
    names = [*(path.name for path in _secrets(offered)), *(name for name in NODE_NAMES if (offered / name).is_file())]
    if not names:
        report.trouble("There is neither a node file nor a link's secret on the stick",
                       "Name the node file node.toml and a secret qbb.link.NAME, in no folder")  # fmt: skip
    for name in (*names, *(f"{name}{SIGNATURE}" for name in names)):
        if (offered / name).is_file():
            with (folder / name).open("xb") as copy:
                (folder / name).chmod(0o600)
                command = ["head", f"--bytes={LONGEST_BYTES + 1}", str(offered / name)]
                subprocess.run(command, stdout=copy, check=False)


def _secrets(offered: Path) -> list[Path]:
    return sorted(path for path in offered.glob(f"{SECRETS}*") if path.suffix != SIGNATURE)


def clear_up(kept: Kept, report: Report) -> None:
    """Destroys what a power cut left half taken in."""
    for left in [*kept.secrets.glob(f"{SECRETS}*{NEW}"), kept.node.with_name(kept.node.name + NEW)]:
        _destroy(left, report)


def standing(kept: Kept, machine: Identity, report: Report) -> NodeConfig | None:
    """The node file that is kept. Tells what is wrong with it."""
    if not kept.node.exists():
        report.trouble("This machine has no node file", "Offer one: on a memory stick with the label QBB-NODE as "
                       "node.toml, as the credential qbb.node, or typed here (key n)")  # fmt: skip
        return None
    return _good(kept.node, machine, report)


def _take_node(path: Path, kept: Kept, machine: Identity, report: Report, warrant: Warrant) -> NodeConfig | None:
    node = _good(path, machine, report)
    if node is None or not _may_put(path, kept.node, kept, report, warrant):
        return None
    replaces = kept.node.exists() and not _same(path, kept.node)
    if replaces and not warrant.proved and node.site.machine is None:
        report.trouble("A node file that replaces another must say which machine it is for",
                       f"Set site.machine in it to this machine's UUID or serial number, {machine}")  # fmt: skip
        return None
    _put(path, kept.node, 0o644, kept, report)
    return node


def _good(path: Path, machine: Identity, report: Report) -> NodeConfig | None:
    """The file read, when nothing is wrong with it."""
    try:
        if path.stat().st_size > LONGEST_BYTES:
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


def _take_secret(path: Path, kept: Kept, report: Report, warrant: Warrant) -> None:
    try:
        for memory in linksecret.read(path)[:2]:
            memory.close()
    except OSError as error:
        report.trouble(f"{path.name} ({path.stat().st_size} bytes) cannot be a link's secret: {error.strerror}",
                       "Make one with qbb link secret, bring it to both ends, and keep it as it is")  # fmt: skip
        return
    target = kept.secrets / path.name
    if _may_put(path, target, kept, report, warrant):
        _put(path, target, 0o600, kept, report)


def _may_put(source: Path, target: Path, kept: Kept, report: Report, warrant: Warrant) -> bool:
    if not target.exists() or _same(source, target) or warrant.proved:
        return True
    name = source.name
    if kept.was_taken(source):
        report.trouble(f"{name} was taken in before, and replaced since: its signature counts no more",
                       "Write a new one, or type it here, with the recovery key")  # fmt: skip
        return False
    if is_signed(source, warrant.keys):
        return True
    report.trouble(f"{name} would replace what this machine keeps, and no administrator of it has signed it",
                   f"Sign it with a key of site.ssh_keys ({how_to_sign(name)}) and bring {name}{SIGNATURE} beside it; "
                   "or type it here, with the recovery key")  # fmt: skip
    return False


def _digest(path: Path) -> str:
    """By sha256sum(1): what a secret says never is in this program."""
    return subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]


def _same(one: Path, other: Path) -> bool:
    """By cmp(1), for the same reason."""
    return subprocess.run(["cmp", "--silent", one, other], check=False).returncode == 0


def _put(source: Path, target: Path, mode: int, kept: Kept, report: Report) -> None:
    """By install(1), for the same reason."""
    if _same(source, target):
        return
    new = target.with_name(target.name + NEW)
    try:
        target.parent.mkdir(mode=0o755 if mode & 0o044 else 0o700, parents=True, exist_ok=True)
        subprocess.run(["install", f"--mode={mode:o}", source, new], check=True, capture_output=True)
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.rename(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        report.changed = True
        kept.taken.touch(mode=0o600)  # of secrets too
        with kept.taken.open("a") as taken:
            taken.write(f"{_digest(target)}\n")
    except (OSError, subprocess.CalledProcessError) as error:
        report.trouble(f"{target} could not be written: {error}", "See whether the disk is full or failing: "
                       "journalctl -k -p warning, and df /var")  # fmt: skip
        _destroy(new, report)


def _destroy(path: Path, report: Report) -> None:
    """Overwritten, then removed."""
    try:
        blockfile.destroy_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        report.trouble(f"{path}, which was not taken in whole, could not be destroyed: {error.strerror}",
                       f"Destroy it as root: shred -u {path}")  # fmt: skip


def missing_secrets(node: NodeConfig, kept: Kept, credentials: tuple[Path, ...]) -> Iterator[str]:
    """Links whose secret is nowhere."""
    for link in node.links:
        name = f"{SECRETS}{link.name}"
        places = [*(folder / name for folder in (kept.secrets, *credentials)), *([link.secret] if link.secret else [])]
        if not any(place.exists() for place in places):
            yield link.name
