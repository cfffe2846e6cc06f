"""Makes the Debian package out of the wheel, the units and what lies in packaging/: `make deb`.

    python packaging/deb/build.py --wheel dist/NAME.whl --out dist [--version V]

The same inputs give the same bytes: every time in it is $SOURCE_DATE_EPOCH (see the Makefile), every owner root. Prints
where the package is.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from email.utils import formatdate
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
NAME = "qbb"
MAINTAINER = "QBB appliance <root@localhost>"
PYTHON = Path("usr/lib/python3/dist-packages")
UNITS = Path("usr/lib/systemd/system")
# Debian's own packages. libssl3t64 is what Debian 13 calls libssl3.
DEPENDS = (
    "python3 (>= 3.11)",
    "python3-cffi-backend (>= 1.15)",
    "python3-networkx (>= 3.2)",
    "python3-psutil (>= 5.9)",
    "python3-pyroute2 (>= 0.7)",
    "python3-rich (>= 13)",
    "python3-systemd (>= 235)",
    "frr (>= 8.4)",
    "frr (<< 11)",
    "systemd (>= 257)",
    "libc6 (>= 2.36)",
    "libssl3t64 | libssl3",
)
DESCRIPTION = """node of a trusted-relay quantum key distribution network
 Stores the keys that QKD devices make with each neighbour, relays session keys
 across the network under one-time pads, and gives them to the applications of
 the site: see qbb(1), qbb-units(7), qbb-node.toml(5)."""


def copy(source: Path, target: Path, mode: int = 0o644) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)


def compress(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))


def code(wheel: Path, stage: Path) -> None:
    """The Python package as Debian lays it out; binaries stripped."""
    place = stage / PYTHON
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    for info in place.glob("*.dist-info"):
        for name in ("RECORD", "entry_points.txt", "WHEEL"):
            (info / name).unlink(missing_ok=True)
        (info / "INSTALLER").write_text("dpkg\n")
    for path in place.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for binary in (*place.rglob("*.so"), place / "appliance/client/c/qbb-tls"):
        run(["strip", "--strip-unneeded", "--remove-section=.comment", "--remove-section=.note.gnu.build-id",
             str(binary)])  # fmt: skip
    (place / "appliance/client/c/qbb-tls").chmod(0o755)
    program = stage / "usr/bin/qbb"
    program.parent.mkdir(parents=True)
    program.write_text("#!/usr/bin/python3 -I\nimport sys\n\nfrom appliance.cli.main import main\n\nsys.exit(main())\n")
    program.chmod(0o755)


def units(stage: Path) -> None:
    source = ROOT / "systemd"
    for path in sorted(source.rglob("*")):
        where = path.relative_to(source)
        if path.suffix in (".service", ".socket", ".target", ".path", ".timer", ".conf"):
            copy(path, stage / UNITS / where)
    copy(source / "qbb-generator", stage / "usr/lib/systemd/system-generators/qbb-generator", 0o755)
    copy(source / "qbb.sysusers", stage / "usr/lib/sysusers.d/qbb.conf")
    copy(source / "qbb.tmpfiles", stage / "usr/lib/tmpfiles.d/qbb.conf")
    copy(ROOT / "packaging/qbb.catalog", stage / "usr/lib/systemd/catalog/qbb.catalog")


def documents(stage: Path, version: str, epoch: int) -> None:
    for page in sorted((ROOT / "packaging").glob("qbb*.[1-8]")):
        compress(page, stage / f"usr/share/man/man{page.suffix[1:]}" / f"{page.name}.gz")
    share = stage / "usr/share/doc" / NAME
    copy(HERE / "copyright", share / "copyright")
    for example in sorted((ROOT / "packaging/examples").iterdir()):
        copy(example, share / "examples" / example.name)
    for source in sorted((ROOT / "appliance/client/c").glob("*.[ch]")):
        copy(source, share / "examples/client" / source.name)
    text = f"{NAME} ({version}) stable; urgency=medium\n\n  * See the history of the source.\n\n"
    text += f" -- {MAINTAINER}  {formatdate(epoch)}\n"
    (share / "changelog.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    (stage / "etc/qbb").mkdir(parents=True)


def control(stage: Path, version: str) -> None:
    folder = stage / "DEBIAN"
    folder.mkdir()
    files = sorted(path for path in stage.rglob("*") if path.is_file() and folder not in path.parents)
    sums = [f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n" for path in files]
    (folder / "md5sums").write_text("".join(sums))
    size_kib = sum((path.stat().st_size + 1023) // 1024 for path in files)
    architecture = run(["dpkg", "--print-architecture"]).strip()
    (folder / "control").write_text(
        f"Package: {NAME}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n"
        f"Section: net\nPriority: optional\nInstalled-Size: {size_kib}\nDepends: {', '.join(DEPENDS)}\n"
        f"Recommends: iproute2\nDescription: {DESCRIPTION}\n"
    )
    for name in ("postinst", "prerm", "postrm"):
        copy(HERE / name, folder / name, 0o755)


def settle(stage: Path, epoch: int) -> None:
    """One time for everything, modes that do not hang on the umask."""
    for path in (stage, *stage.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def version_in_tree() -> str:
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the Debian package.")
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--version", default=version_in_tree())
    options = parser.parse_args()
    if not re.fullmatch(r"[0-9][A-Za-z0-9.+~-]*", options.version):
        parser.error(f"{options.version!r} is no version: digits first, then letters, digits, . + ~ -")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "stage"
        stage.mkdir()
        code(options.wheel, stage)
        units(stage)
        documents(stage, options.version, epoch)
        control(stage, options.version)
        settle(stage, epoch)
        options.out.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        built = subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(stage), str(options.out)],
            check=True, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    print(built.stdout.rpartition("'")[0].rpartition("'")[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
