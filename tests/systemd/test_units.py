"""The unit files: nothing that systemd would warn of, and how far each may be from harmless."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "systemd"
# Tenths of systemd's measure. FRR must be started with privileges that it then gives up.
MOST = {
    "qbb-keys.service": 5,
    "qbb-routing.service": 5,
    "qbb-monitor.service": 5,
    "qbb-device@.service": 8,
    "qbb-dataplane.service": 13,
}
MOST_OF_OTHERS = 15
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
EVERYWHERE = ("NoNewPrivileges=yes", "LimitCORE=0", "MemorySwapMax=0")


@pytest.fixture(scope="module")
def installed(debian: Path, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the package unpacked over it, in a folder of its own; only files, no users."""
    root = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    return root


def analyze(debian: Path, installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze of the tree, which sees the installed files."""
    units = "usr/lib/systemd/system"
    shell = (
        f"mount -t tmpfs analyze {debian}/mnt && mkdir {debian}/mnt/up {debian}/mnt/work {debian}/mnt/root"
        f" && cp -a {installed}/. {debian}/mnt/up"
        f" && mount -t overlay analyze {debian}/mnt/root"
        f" -o lowerdir={debian},upperdir={debian}/mnt/up,workdir={debian}/mnt/work"
        f" && mount -t proc proc {debian}/mnt/root/proc && ls {debian}/mnt/root/{units}/qbb.target >/dev/null"
        f' && exec chroot {debian}/mnt/root systemd-analyze "$@"'
    )
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", shell, "sh", *words],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_there_is_a_row_for_every_service() -> None:
    assert set(MOST) <= set(SERVICES)


@pytest.mark.parametrize("unit", SERVICES)
def test_a_unit_is_no_more_exposed_than_it_must_be(debian: Path, installed: Path, unit: str) -> None:
    most = MOST.get(unit, MOST_OF_OTHERS)
    told = analyze(debian, installed, "security", "--offline=yes", f"--threshold={most}", unit)
    assert told.returncode == 0, told.stdout + told.stderr
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", told.stdout + told.stderr)
    assert exposure is not None and float(exposure[1]) <= most / 10


def test_verify_has_nothing_to_say(debian: Path, installed: Path) -> None:
    names = sorted(path.name for path in UNITS.iterdir() if path.suffix in (".service", ".socket", ".target", ".path"))
    wanted = [name.replace("@.", "@fibre-1.") for name in names]
    told = analyze(debian, installed, "verify", "--man=no", *wanted)
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


def test_verify_would_see_a_misspelt_setting(debian: Path, installed: Path, tmp_path: Path) -> None:
    spoilt = tmp_path / "spoilt"
    shutil.copytree(installed, spoilt, symlinks=True)
    unit = spoilt / "usr/lib/systemd/system/qbb-keys.service"
    unit.write_text(unit.read_text().replace("PrivateNetwork=", "PrivateNetwrk="))
    assert "PrivateNetwrk" in analyze(debian, spoilt, "verify", "--man=no", "qbb-keys.service").stderr


def test_what_holds_for_all_is_written_once() -> None:
    common = (UNITS / "qbb-.service.d/10-confined.conf").read_text()
    assert all(line in common.splitlines() for line in EVERYWHERE)
    for name in SERVICES:
        assert not any(line.split("=")[0] + "=" in (UNITS / name).read_text() for line in EVERYWHERE), name
