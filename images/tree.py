"""Debian trees: the root of a small Debian 13 with the packages that are asked for, built once and kept.

    python -m images.tree PACKAGE...        prints where it is

mmdebstrap makes it, from the mirror and under the keyring of the machine's own apt configuration; nothing here names
a mirror. A tree lies under build/trees/, named by a hash of what it was made of, and is never written to again: whoever
wants to change something lays an overlay over it, or copies it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREES = ROOT / "build" / "trees"
SUITE = "trixie"
BASE = ("systemd", "systemd-sysv")
KEYRINGS = Path("/usr/share/keyrings")
# No manuals, no translations, no caches: nobody reads them in a tree. Licences stay.
LEAN = (
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-include=/usr/share/man/man[1-9]/qbb*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
)


class CannotBuild(Exception):
    """The tree cannot be made here; the text says why and what to do."""


def sources(suite: str = SUITE) -> str:
    """apt's sources for `suite`: this machine's own, with its release's name replaced. Raises CannotBuild."""
    own = _own_codename()
    told = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]).stdout
    found = []
    for line in sorted(set(told.splitlines())):
        place, _, release = line.partition(" ")
        if release == own or release in (f"{own}-updates", f"{own}-security"):
            found.append((place, suite + release.removeprefix(own)))
    if not found:
        raise CannotBuild(f"apt's sources name no mirror of Debian {own}: see /etc/apt/sources.list.d")
    keyring = _keyring()
    return "\n".join(
        f"Types: deb\nURIs: {place}\nSuites: {release}\nComponents: main\nSigned-By: {keyring}\n"
        for place, release in found
    )


def _own_codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise CannotBuild("/etc/os-release names no release: a Debian machine is wanted")


def _keyring() -> Path:
    keyring = KEYRINGS / "debian-archive-keyring.gpg"
    if not keyring.exists():
        raise CannotBuild(f"there is no {keyring}: install debian-archive-keyring")
    return keyring


def tree(packages: Iterable[str] = (), *, base: Sequence[str] = BASE, suite: str = SUITE) -> Path:
    """The tree with `base` and `packages` and what they depend on, without what they recommend. Raises CannotBuild."""
    wanted = sorted({*base, *packages})
    origin = sources(suite)
    inputs = "\n".join([*wanted, *LEAN, suite, origin])
    path = TREES / f"{suite}-{hashlib.sha256(inputs.encode()).hexdigest()[:16]}"
    TREES.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two who want the same build it once
        if not path.exists():
            _build(path, wanted, suite, origin)
    return path


def _build(path: Path, packages: list[str], suite: str, origin: str) -> None:
    if os.geteuid() != 0:
        raise CannotBuild("making a tree needs root")
    if shutil.which("mmdebstrap") is None:
        raise CannotBuild("there is no mmdebstrap: make install brings it, or install the Debian package")
    half = path.with_suffix(".half")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(mode=0o755)
    _run(
        [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=directory",
            f"--include={','.join(packages)}",
            '--aptopt=Apt::Install-Recommends "false"',
            '--aptopt=Acquire::Retries "3"',
            *LEAN,
            suite,
            str(half),
            "-",
        ],
        origin,
    )
    half.rename(path)


def _run(command: list[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    ran = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise CannotBuild(f"{command[0]} failed with status {ran.returncode}: {ran.stderr.strip()[-2000:]}")
    return ran


def main(words: list[str]) -> int:
    try:
        print(tree(words))
    except CannotBuild as why:
        print(f"images.tree: {why}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
