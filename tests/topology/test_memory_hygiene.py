"""Key bytes are in key memory and in the key store's files, and nowhere else: not in what anyone can read of a
process's memory, not in a core, a log, a temporary file or swap (design, rule 7).

The fibre fills its blocks with a known pattern, so that every pad, mask and hash key of the link is known; session keys
are known once an application has them. Programs are started with core dumps allowed, then searched, then crashed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab import Network, Process, Run, pair
from appliance.lab.waiting import until

from . import memory
from .talk import Talk

PATTERN = os.urandom(64)
SEAM = PATTERN[-8:] + PATTERN[:8]  # in blocks only: the simulated device must know the pattern itself
KEYS = 300
LINK_SECRET_KEY = slice(56, 88)
ITS_OWN_WORDS = b"appliance/services/"  # a path, in every unit's heap
GCORE = shutil.which("gcore")
CRASHES = (signal.SIGABRT, signal.SIGSEGV)
# Cores may fall, of any size, into a directory of the program's own; temporary files too.
WITH_CORES = 'ulimit -c unlimited && cd "$0" && TMPDIR="$0" exec "$@"'


def let_core(process: Process) -> Path:
    """Has the program started so that a crash leaves a core; returns where."""
    folder = process.log.with_suffix(".cwd")
    folder.mkdir()
    process.command = ["sh", "-c", WITH_CORES, str(folder), *process.command]
    return folder


def units(network: Network) -> dict[str, Process]:
    """Of both nodes; the fibre is nature."""
    return {unit.name: unit for node in network.nodes.values() for unit in node.units.values()}


@contextlib.contextmanager
def patterned() -> Iterator[Network]:
    """Two nodes whose link has never had any key but the pattern and the link secret's block."""
    with Run() as run:
        network = Network(run, pair())
        for unit in units(network).values():
            let_core(unit)
        (device,) = network.fibres
        network.fibres[device].start()
        until(lambda: network.fibres[device].printed(), "the fibre listens")
        network.ask_fibre(device, "pattern", hex=PATTERN.hex())
        for node in network.nodes.values():
            node.start()
        network.wait_ready()
        yield network


def use(network: Network) -> list[bytes]:
    """Session keys that both ends got, from stock and singly, before and after a session that took its hash keys and
    first masks from the pattern."""
    with Talk(network, prefetch=64) as talk:
        found = [talk.key() for _ in range(KEYS)]
        found.append(talk.key(1024))
    vienna = network.node("vienna")
    vienna.stop("dataplane")
    vienna.start("dataplane")
    network.wait_ready()
    with Talk(network) as talk:
        found += [talk.key() for _ in range(10)]
    for name, node in network.nodes.items():
        folder = node.state / "dataplane/line/blocks"
        until(lambda folder=folder: patterned_block(folder), f"{name}: the pattern is what the link spends")  # type: ignore[misc]
    return found


def patterned_block(folder: Path) -> bool:
    """Is a block there that the fibre made? Those that are used up go."""
    with contextlib.suppress(FileNotFoundError):
        return any(SEAM in block.read_bytes() for block in folder.glob("*.key"))
    return False


def secrets_of(network: Network, keys: list[bytes]) -> dict[str, bytes]:
    """All that must be nowhere, but for the words of the pattern."""
    link_secret = (network.run.directory / "paris-line.secret").read_bytes()
    block = link_secret[LINK_SECRET_KEY.stop :]
    found = memory.words("link secret", link_secret[LINK_SECRET_KEY]) | memory.words("its block", block[:64], 16)
    for number, key in enumerate(keys[::20] + keys[-3:]):
        found |= memory.words(f"session key {number}", key[:32], 16)
    return found | {"a block's seam": SEAM}


def needles_of(unit: Process, secrets: dict[str, bytes]) -> dict[str, bytes]:
    return dict(secrets) if "device" in unit.name else secrets | memory.words("pattern", PATTERN)


def test_key_is_in_key_memory_and_in_the_store_alone(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with patterned() as network:
        secrets = secrets_of(network, use(network))
        for unit in units(network).values():
            check_memory(unit, needles_of(unit, secrets))
            check_key_memory(unit)
            check_forced_core(unit, needles_of(unit, secrets), tmp_path)
        check_files(network, secrets)
        check_crashes(network)
        check_files(network, secrets)


def check_memory(unit: Process, needles: dict[str, bytes]) -> None:
    found = memory.search_process(unit.pid, needles)
    assert not found.findings, f"{unit.name}: {found.findings}"
    seen = memory.search_process(unit.pid, {"its own words": ITS_OWN_WORDS})
    assert seen.findings, f"{unit.name}: its memory was not really read"
    assert seen.bytes_read > 10 << 20


def check_key_memory(unit: Process) -> None:
    """Locked, out of dumps, never swapped."""
    held = [area for area in memory.areas(unit.pid) if memory.KEY_MEMORY.search(area.name)]
    if "dataplane" in unit.name or "keys" in unit.name:  # a device has some only while it holds a block
        assert held, unit.name
    assert all(area.protected for area in held), f"{unit.name}: {held}"
    assert memory.swapped_kib(unit.pid) == 0, unit.name
    assert memory.core_limit(unit.pid) == ("0", "0"), unit.name


def check_forced_core(unit: Process, needles: dict[str, bytes], folder: Path) -> None:
    """As root takes it by ptrace, from a living process; where gdb is."""
    if GCORE is None:
        return
    core = force_core(unit.pid, folder)
    assert memory.within(core, needles) == [], unit.name
    assert ITS_OWN_WORDS in core, f"{unit.name}: the core holds nothing"


def force_core(pid: int, folder: Path) -> bytes:
    assert GCORE is not None
    subprocess.run([GCORE, "-o", str(folder / "core"), str(pid)], check=True, capture_output=True)
    path = folder / f"core.{pid}"
    core = path.read_bytes()
    path.unlink()
    return core


def check_files(network: Network, secrets: dict[str, bytes]) -> None:
    """Logs, audit, temporary files, files without a name: all but what is there to hold key."""
    needles = secrets | memory.words("pattern", PATTERN)
    texts = {f"{what} in hex": secret.hex().encode() for what, secret in secrets.items()}
    assert memory.search_files(network.run.directory, needles | texts) == []
    for unit in units(network).values():
        if unit.running:
            assert memory.search_open_files(unit.pid, needles) == [], unit.name
        assert "Traceback" not in unit.said()
        assert not list(unit.log.with_suffix(".cwd").iterdir()), f"{unit.name} left files where it ran"


def check_crashes(network: Network) -> None:
    """No core falls, though cores were allowed when the units were started."""
    for number, unit in enumerate(units(network).values()):
        signal_number = CRASHES[number % len(CRASHES)]
        unit.signal(signal_number)
        assert unit.wait(20) == -signal_number, unit.name
    assert not list(network.run.directory.rglob("core*"))


# --- that all of this can fail ---------------------------------------------------------------------------------------

CARELESS = """
import sys, time
planted = bytes(byte ^ 0x55 for byte in bytes.fromhex(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def careless(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program with a secret in a Python object, started as the units are, and hardened against nothing."""
    hidden = bytes(byte ^ 0x55 for byte in PATTERN).hex()
    command = ["sh", "-c", WITH_CORES, str(tmp_path), sys.executable, "-c", CARELESS, hidden]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_planted_key_is_found_in_memory(careless: subprocess.Popen[str]) -> None:
    found = memory.search_process(careless.pid, memory.words("pattern", PATTERN))
    assert len({finding.what for finding in found.findings}) == len(PATTERN) // 8
    assert memory.core_limit(careless.pid) == ("unlimited", "unlimited")


@pytest.mark.skipif(GCORE is None, reason="gcore of gdb is not installed")
def test_planted_key_is_found_in_a_forced_core(careless: subprocess.Popen[str], tmp_path: Path) -> None:
    assert memory.within(force_core(careless.pid, tmp_path), {"seam of nothing": SEAM, "pattern": PATTERN}) == [
        "pattern"
    ]


def test_crash_of_a_careless_program_leaves_a_core(careless: subprocess.Popen[str], tmp_path: Path) -> None:
    if Path("/proc/sys/kernel/core_pattern").read_text().startswith(("|", "/")):
        pytest.skip("this machine's core_pattern takes cores elsewhere: that none falls here would mean nothing")
    careless.send_signal(signal.SIGABRT)
    assert careless.wait(20) == -signal.SIGABRT
    assert [finding.what for finding in memory.search_files(tmp_path, {"pattern": PATTERN})] == ["pattern"]


def test_planted_key_is_found_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file.log").write_bytes(b"warning: " + PATTERN[:16] + b"\n")
    found = memory.search_files(tmp_path, memory.words("pattern", PATTERN))
    assert [finding.what for finding in found] == ["pattern byte 0", "pattern byte 8"]
