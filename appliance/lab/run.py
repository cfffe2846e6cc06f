"""One run of the lab: its id, its directory, its lock, and the removal of what dead runs left.

/run/qbb-lab/ID is a file that the run keeps locked as long as it lives; it names the run's directory. Namespaces are
called qbb-ID-SITE. A file that is not locked belongs to a dead run: then namespaces, processes inside and directory go.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from appliance.lab import namespaces
from appliance.lab.process import Process, stop_all

LOCKS = Path("/run/qbb-lab")
GATE = LOCKS / "gate"  # held while runs are made, and while dead ones are removed
PREFIX = "qbb-"
OURS = re.compile(r"qbb-([0-9a-f]{8})-.+")
STOPPING = (signal.SIGTERM, signal.SIGHUP)


class Run:
    """A context manager; `directory` and all namespaces and processes made through it go at its end."""

    def __init__(self, keep_directory: bool = False) -> None:
        self.id = secrets.token_hex(4)
        self.directory = Path()
        self._keep_directory = keep_directory
        self._lock = -1
        self._owner = os.getpid()
        self._processes: list[Process] = []
        self._closing: list[Callable[[], None]] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            raise PermissionError(1, "network namespaces need root")
        LOCKS.mkdir(mode=0o700, exist_ok=True)
        with locked(GATE):
            remove_dead()
            self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{self.id}-"))
            self._lock = os.open(LOCKS / self.id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.write(self._lock, f"{self.directory}\n".encode())
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._catch_signals()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with unhurried():
            for close in reversed(self._closing):
                close()
            stop_all(self._processes)
            remove(self.id, None if self._keep_directory else self.directory)
            os.close(self._lock)
        self._release_signals()

    def namespace(self, name: str) -> str:
        """A new network namespace; returns its full name."""
        full = f"{PREFIX}{self.id}-{name}"
        namespaces.create(full)
        return full

    def process(self, name: str, namespace: str, command: Sequence[str], mounts: int | None = None) -> Process:
        """A program of this run; not started yet."""
        process = self.program(name, namespace, command, mounts)
        self._processes.append(process)
        return process

    def program(self, name: str, namespace: str, command: Sequence[str], mounts: int | None) -> Process:
        """How this run starts its programs."""
        return Process(name, namespace, command, self.directory, mounts)

    def at_end(self, close: Callable[[], None]) -> None:
        """Something to do before the processes are stopped."""
        self._closing.append(close)

    # A signal becomes SystemExit, so that the `with` block ends as it does after any exception.

    def _catch_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if signal.getsignal(number) is signal.SIG_DFL:
                self._handlers[number] = signal.signal(number, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            os._exit(128 + number)  # a forked helper (pyroute2 has some): the run is not its to end
        raise SystemExit(128 + number)

    def _release_signals(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()


@contextlib.contextmanager
def unhurried() -> Iterator[None]:
    """Without being interrupted by whoever presses Ctrl-C twice."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *STOPPING)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def remove(run_id: str, directory: Path | None) -> None:
    """All that is left of a run; its file last, so that what is not removed yet is found again."""
    for name in namespaces.existing(f"{PREFIX}{run_id}-"):
        namespaces.remove(name)
    if directory is not None:
        shutil.rmtree(directory, ignore_errors=True)
    (LOCKS / run_id).unlink(missing_ok=True)


def remove_dead() -> None:
    """What runs that were killed left behind."""
    alive = set()
    for path in LOCKS.iterdir():
        if path == GATE or path.is_dir():
            continue  # a directory belongs to `qbb lab`: see record.py
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # it just ended by itself
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            told = Path(path.read_text().strip())
            ours = told.name.startswith(f"{PREFIX}{path.name}-")  # nothing else is ever removed
            remove(path.name, told if ours else None)
        except BlockingIOError:
            alive.add(path.name)
        finally:
            os.close(fd)
    for name in namespaces.existing(PREFIX):
        match = OURS.fullmatch(name)
        if match and match[1] not in alive:
            namespaces.remove(name)
