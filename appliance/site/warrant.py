"""Who may replace what a machine keeps: its administrators, and who has the recovery key of its /var.

A machine without a node file takes the first that fits. From then on hands on the machine are not enough: its TPM
opens /var for whoever switches it on, and a node file of his own would let him in. A file on a memory stick is signed
by a key of `site.ssh_keys`, as ssh-keygen(1) does it; at the console the recovery key is asked for.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from appliance import config

NAMESPACE = "qbb"  # what the signature is for
WHO = "administrator"
SIGNATURE = ".sig"
VAR = Path("/dev/disk/by-partlabel/qbb-var")
HOW_TO_SIGN = f"ssh-keygen -Y sign -n {NAMESPACE} -f KEY"


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
        signers.writelines(f'{WHO} namespaces="{NAMESPACE}" {key}\n' for key in keys)
        signers.flush()
        words = ["ssh-keygen", "-Y", "verify", "-f", signers.name, "-I", WHO, "-n", NAMESPACE, "-s", str(signature)]
        return subprocess.run(words, stdin=signed, capture_output=True, check=False).returncode == 0


def opens_var(recovery_key: str, device: Path = VAR) -> bool:
    """Without the TPM, which cryptsetup would ask before it looks at what was typed."""
    words = ["cryptsetup", "open", "--test-passphrase", "--disable-external-tokens", "--key-file=-", str(device)]
    return subprocess.run(words, input=recovery_key.encode(), capture_output=True, check=False).returncode == 0
