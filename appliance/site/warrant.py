"""Who may replace what a machine keeps: its administrators, and who has the recovery key of its /var.

A machine without a node file takes the first that fits. From then on hands on the machine are not enough: its TPM
opens /var for whoever switches it on, and a node file of his own would let him in. A file on a memory stick is signed
by a key of `site.ssh_keys`, as ssh-keygen(1) does it, for its own name; at the console the recovery key is asked for.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance import config

WHO = "administrator"
SIGNATURE = ".sig"
VAR = Path("/dev/disk/by-partlabel/qbb-var")


@dataclass(frozen=True)
class Warrant:
    """Of somebody who brings something."""

    keys: tuple[str, ...] = ()  # of those who may sign for it
    proved: bool = False  # he has the recovery key, or owns the virtual machine


def how_to_sign(name: str) -> str:
    """The command, for a file of this name: one that was signed is not taken under another."""
    return f"ssh-keygen -Y sign -n {name} -f KEY {name}"


def administrators(node: Path) -> tuple[str, ...]:
    """The public keys of the node file that is kept; none when there is no good one."""
    try:
        return tuple(config.load(node).site.ssh_keys)
    except (OSError, config.ConfigurationErrors):
        return ()


def is_signed(path: Path, keys: Sequence[str]) -> bool:
    """By one of these, in the file NAME.sig beside it."""
    signature = path.with_name(path.name + SIGNATURE)
    if not keys or not signature.is_file():
        return False
    with tempfile.NamedTemporaryFile("w") as signers, path.open("rb") as signed:
        signers.writelines(f"{WHO} {key}\n" for key in keys)
        signers.flush()
        words = ["ssh-keygen", "-Y", "verify", "-f", signers.name, "-I", WHO, "-n", path.name, "-s", str(signature)]
        return subprocess.run(words, stdin=signed, capture_output=True, check=False).returncode == 0


def opens_var(recovery_key: str, device: Path = VAR) -> bool:
    """Without the TPM, which cryptsetup would ask before it looks at what was typed."""
    words = ["cryptsetup", "open", "--test-passphrase", "--disable-external-tokens", "--key-file=-", str(device)]
    return subprocess.run(words, input=recovery_key.encode(), capture_output=True, check=False).returncode == 0
