"""The Debian package as the tests want it: built once for both workers, again when a source changed."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from images.tree import tree

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("appliance", "csrc/core", "csrc/io", "packaging", "systemd", "setup.py", "pyproject.toml")
BUILT = (".so", ".pyc", "qbb-tls", "_native.c", "_native_probe.c")  # lies among the sources, is none


def built() -> Path:
    """dist/qbb_*.deb, from make deb."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build/package.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted((ROOT / "dist").glob("qbb_*.deb"))
        if len(found) != 1 or found[0].stat().st_mtime < _newest():
            for old in found:
                old.unlink()
            subprocess.run(["make", "deb"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=900)
            found = sorted((ROOT / "dist").glob("qbb_*.deb"))
    (package,) = found
    return package


def with_version(version: str, folder: Path) -> Path:
    """The same package under another version."""
    wheel = next((ROOT / "dist").glob("*.whl"))
    command = [sys.executable, str(ROOT / "packaging/deb/build.py"), "--wheel", str(wheel), "--out", str(folder),
               "--version", version]  # fmt: skip
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "SOURCE_DATE_EPOCH": "1000000000"})  # fmt: skip
    return Path(made.stdout.strip())


def _newest() -> float:
    times = [0.0]
    for name in SOURCES:
        path = ROOT / name
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and not file.name.endswith(BUILT) and "egg-info" not in str(file):
                times.append(file.stat().st_mtime)
    return max(times)


def depends(package: Path) -> list[str]:
    """Names of the packages that it needs; of alternatives the first."""
    told = subprocess.run(
        ["dpkg-deb", "-f", str(package), "Depends"], check=True, capture_output=True, text=True
    ).stdout
    return sorted({one.split("|")[0].split("(")[0].strip() for one in told.split(",")})


def base(package: Path) -> Path:
    """A Debian 13 with everything that the package needs, without it."""
    return tree([*depends(package), "iproute2"])
