"""What is written down of a running lab, so that other commands find it and `down` can remove it after a crash.

    /run/qbb-lab/NAME/lab.json      the record: who keeps the lab, where its nodes are
    /run/qbb-lab/NAME/processes     a line for each process that was started: id, start time, name
    /run/qbb-lab/NAME/control       the keeper's control socket
    /run/qbb-lab/NAME/keeper.log    what the keeper said
    /run/qbb-lab/NAME/lock          held by the keeper as long as it lives

A process is known by its id and its start time together: an id alone may be another's by now.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from appliance.lab import run

STOP_S = 90.0
POLL_S = 0.05
FRR = Path("/run/frr")  # a folder for each node whose routes OSPF finds


@dataclass(frozen=True)
class Recorded:
    """`run` and `directory` are the Run's; `nodes` name -> directory."""

    name: str
    file: str
    keeper: int
    keeper_start: int
    run: str
    directory: str
    nodes: dict[str, str]

    @property
    def alive(self) -> bool:
        return start_time(self.keeper) == self.keeper_start

    def configuration(self, node: str) -> Path:
        return Path(self.nodes[node]) / "node.toml"

    def runtime(self, node: str) -> Path:
        """Where its sockets are."""
        return Path(self.nodes[node]) / "run"

    def namespace(self, node: str) -> str:
        return f"{run.PREFIX}{self.run}-{node}"


def place(name: str) -> Path:
    return run.LOCKS / name


def control(name: str) -> Path:
    return place(name) / "control"


def start_time(pid: int) -> int | None:
    """Of a process, in clock ticks since the machine started; None when there is none."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        # The name in parentheses may hold blanks and parentheses: fields are counted from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] != "Z":
            return int(fields[19])
    return None


def write(found: Recorded) -> None:
    path = place(found.name) / "lab.json"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(found), indent=1))
    fresh.rename(path)


def note_process(name: str, pid: int, process: str) -> None:
    with (place(name) / "processes").open("a") as file:
        file.write(f"{pid} {start_time(pid) or 0} {process}\n")


def read(name: str) -> Recorded | None:
    """None when there is no lab of that name, or one that died before it wrote."""
    try:
        return Recorded(**json.loads((place(name) / "lab.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None


def processes(name: str) -> Iterator[tuple[int, int, str]]:
    """Those that still are what was written down: id, start time, name."""
    with contextlib.suppress(FileNotFoundError):
        for line in (place(name) / "processes").read_text().splitlines():
            with contextlib.suppress(ValueError):
                pid, started, process = line.split(maxsplit=2)
                if start_time(int(pid)) == int(started):
                    yield int(pid), int(started), process


def kept(name: str) -> bool:
    """Does a keeper hold the lab's lock?"""
    try:
        fd = os.open(place(name) / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def stop(pid: int, started: int, number: signal.Signals) -> None:
    """Signals a process if it still is the one that was written down."""
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)  # from here on it cannot become another's
        try:
            if start_time(pid) == started:
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def end(name: str, limit_s: float = STOP_S) -> bool:
    """Ends a lab in order, and removes what is left of a crashed one. False when there was nothing of that name."""
    if not place(name).exists():
        return False
    found = read(name)
    if found is not None and found.alive:
        stop(found.keeper, found.keeper_start, signal.SIGTERM)
        until = time.monotonic() + limit_s
        while found.alive and time.monotonic() < until:
            time.sleep(POLL_S)
        stop(found.keeper, found.keeper_start, signal.SIGKILL)
    sweep(name)
    return True


def sweep(name: str) -> None:
    """Removes what a dead keeper left: processes, namespaces with all in them, directories."""
    for pid, started, _ in processes(name):
        stop(pid, started, signal.SIGKILL)
    with run.locked(run.GATE):
        run.remove_dead()
    if (found := read(name)) is not None:
        for folder in FRR.glob(f"{run.PREFIX}{found.run}-*"):
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(place(name), ignore_errors=True)


def names() -> list[str]:
    """Labs that are there, alive or not."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path.name for path in run.LOCKS.iterdir() if path.is_dir())
    return []
