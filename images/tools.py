"""The tools chroot: what composes images and runs virtual machines, in a Debian 13 of its own.

    python -m images.tools COMMAND...       runs a command in it

The machine's own programs are too old (systemd-repart, ukify), or not there. A command sees this machine's folders ROOT
and /tmp at their places, and /dev, /proc, /sys and /run; its own tree is under an overlay that goes when it ends.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from images import tree
from images.tree import ROOT, CannotBuild

PACKAGES = (
    "cryptsetup-bin",
    "dosfstools",
    "dracut",
    "e2fsprogs",
    "erofs-utils",
    "gpg",
    "efitools",
    "gpg-agent",
    "kmod",
    "mtools",
    "openssl",
    "ovmf",
    "python3-virt-firmware",
    "qemu-system-x86",
    "qemu-utils",
    "swtpm",
    "systemd-boot-efi",
    "systemd-cryptsetup",
    "systemd-repart",
    "systemd-ukify",
    "tpm2-tools",
    "udev",
    "zstd",
)
BASE = ("systemd",)
ENTER = """
mount -t tmpfs -o mode=755 tools /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir={tree},upperdir=/mnt/upper,workdir=/mnt/work tools /mnt/root
for place in /dev /proc /sys /run /tmp {folders}; do
    mkdir -p /mnt/root$place
    mount --rbind $place /mnt/root$place
done
exec chroot /mnt/root sh -c 'cd {here} && exec "$@"' sh "$@"
"""


@functools.cache
def tools() -> Path:
    """The chroot's tree. Raises CannotBuild."""
    return tree.tree(PACKAGES, base=BASE)


def command(words: Sequence[str | Path], here: Path | None = None, folders: Sequence[Path] = ()) -> list[str]:
    """`words` as a command for this machine that runs them in the chroot, in the folder `here` (the current one). It is
    one process: a signal to it reaches the program. `folders`: further folders that it sees. Raises CannotBuild."""
    if os.geteuid() != 0:
        raise CannotBuild("the tools chroot needs root")
    here = here or Path.cwd()
    seen = sorted({ROOT, here, *folders})
    script = ENTER.format(
        tree=shlex.quote(str(tools())),
        folders=" ".join(shlex.quote(str(folder)) for folder in seen if not folder.is_relative_to("/tmp")),
        here=shlex.quote(str(here)),
    )
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", *map(str, words)]


def run(words: Sequence[str | Path], here: Path | None = None, **environment: str) -> str:
    """What the command printed. Raises CannotBuild with what it said when it fails."""
    options: dict[str, Any] = {"capture_output": True, "text": True, "check": False}
    ran = subprocess.run(command(words, here), env={**os.environ, **environment}, **options)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()[-3000:]
        raise CannotBuild(f"{words[0]} failed with status {ran.returncode}: {said}")
    return str(ran.stdout)


def main(words: list[str]) -> int:
    try:
        return subprocess.run(command(words or ["bash"]), check=False).returncode
    except CannotBuild as why:
        print(f"images.tools: {why}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
