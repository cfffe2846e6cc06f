"""Is /var open, where all is that the machine keeps? Did a version not reach health?"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from appliance.site.report import Trouble
from appliance.site.warrant import VAR

IMAGE = "qbb"
STATE = Path("/var")
TPM = Path("/dev/tpmrm0")
PCRS = {7, 12}  # as systemd-repart.service.d of the image has it
SECURE_BOOT = Path("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
VERSIONS = Path("/boot/EFI/Linux")
COUNTED = re.compile(r"qbb_([0-9.]+)(?:\+([0-9]+)(?:-[0-9]+)?)?\.efi")  # systemd-boot(7): tries left, tries done


def running() -> str:
    """The version of the appliance's image; empty where the machine booted from something else."""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release()
        if release.get("IMAGE_ID") == IMAGE:
            return release.get("IMAGE_VERSION", "")
    return ""


def troubles() -> list[Trouble]:
    """What is wrong with the machine."""
    return [*filter(None, (shut() or bound_loosely(),)), *given_up(running())]


def is_open() -> bool:
    return os.path.ismount(STATE)


def shut() -> Trouble | None:
    """Why /var is not open. Without it the node does not start; it goes on by itself when /var is there."""
    if is_open():
        return None
    if not is_secure():
        return Trouble(
            "/var is not open: Secure Boot is off, and what the node keeps is for a machine that checks what it boots",
            "Switch on Secure Boot in the firmware, or put it into setup mode (clear its keys); then start again",
        )
    if not TPM.exists():
        return Trouble(
            "/var is not open: there is no TPM, and what the node keeps is under a TPM's key",
            "Switch on the TPM 2.0 in the firmware, then start again",
        )
    return Trouble(
        "/var is not open: the TPM refuses, as after a change of firmware keys, board or disk, or the disk fails",
        "Where a recovery key is asked for, give it (key u); then bind /var to this TPM: see the README",
    )


def bound_loosely(device: Path = VAR) -> Trouble | None:
    """Was /var made by a version that bound it to less?"""
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", str(device)]
    try:
        tokens = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["tokens"]
    except (OSError, subprocess.CalledProcessError, ValueError, KeyError):
        return None  # not ours to judge: it is open
    if all(set(token.get("tpm2-pcrs", ())) >= PCRS for token in tokens.values() if token["type"] == "systemd-tpm2"):
        return None
    numbers = "+".join(map(str, sorted(PCRS)))
    return Trouble(
        "/var is bound to less than it could be: a command line beside the image would open it",
        f"systemd-cryptenroll --wipe-slot=tpm2 --unlock-tpm2-device=auto --tpm2-device=auto --tpm2-pcrs={numbers} "
        f"--tpm2-public-key-pcrs=11 {device}",
    )


def is_secure() -> bool:
    """Does the firmware check what it boots?"""
    try:
        return SECURE_BOOT.read_bytes()[4:] == b"\x01"  # behind the variable's attributes
    except OSError:
        return False


def versions() -> dict[str, int | None]:
    """On the disk: each with its tries that are left, None when it is kept for good."""
    try:
        found = [COUNTED.fullmatch(path.name) for path in VERSIONS.iterdir()]
    except OSError:
        return {}
    return {match[1]: int(match[2]) if match[2] else None for match in found if match}


def others(version: str) -> list[str]:
    """Versions that the boot loader would start in the place of this one."""
    return [other for other, left in versions().items() if other != version and left != 0]


def given_up(version: str) -> list[Trouble]:
    return [
        Trouble(
            f"Version {other} did not reach health in any of its tries and was given up; {version} runs",
            "The journal of those boots says why: journalctl --list-boots, journalctl -b BOOT -u appliance-health",
        )
        for other, left in versions().items()
        if left == 0 and other != version
    ]
