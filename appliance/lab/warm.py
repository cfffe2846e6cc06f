"""Units as forks of one warm parent: Python and its modules are loaded once for the whole lab.

The child runs `main()` of the very module that `python -m MODULE` would run, with the same words, in its namespace and
session, with its own files. What it does not have is an interpreter start of its own: on two cores the interpreters of
a hundred units take a minute, their forks a second; and pages that nobody writes are there once.

The parent has one thread and holds no key memory; a child closes all that it inherits before it begins.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, cast

from appliance.lab import namespaces
from appliance.lab.process import FOREIGN, Process
from appliance.lab.run import Run

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
CLONE_NEWNET = 0x40000000
COMMAND_LENGTH = 15  # of a process's name, as ps shows it
POLL_S = 0.01
CRASHED = 70  # EX_SOFTWARE of sysexits.h
RESET = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)

_libc = ctypes.CDLL(None, use_errno=True)


class Fork:
    """A forked child, with what Process uses of subprocess.Popen."""

    def __init__(self, child: Callable[[], NoReturn]) -> None:
        self._status: int | None = None
        # What a handler raises while Python's own fork hooks run is lost: the signal waits until the fork is done.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, RESET)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                child()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def poll(self) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(POLL_S)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # it is our child and not yet reaped: the id is still its own
            os.kill(self.pid, number)


class WarmProcess(Process):
    """A module of this package, run in a fork. `started` hears of each start."""

    def __init__(
        self, name: str, namespace: str, command: Sequence[str], directory: Path, started: Callable[[Process], None]
    ) -> None:
        super().__init__(name, namespace, command, directory)
        self._namespace = namespaces.path(namespace)
        self._started = started

    def start(self) -> None:
        """Raises OSError."""
        assert not self.running, f"{self.name} runs already"
        parent = os.getpid()
        self._popen = cast("subprocess.Popen[bytes]", Fork(lambda: self._become(parent)))
        self._started(self)

    def _become(self, parent: int) -> NoReturn:
        """In the child, which never returns to what the parent was doing."""
        try:
            _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(CRASHED)  # it died before we could say so
            for number in RESET:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, RESET)
            os.setsid()
            _enter(self._namespace)
            self._files()
            for name in FOREIGN:
                os.environ.pop(name, None)
            os._exit(self._main())
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(CRASHED)

    def _files(self) -> None:
        """Standard input is empty, output and error go to the unit's files; nothing else is open."""
        for fd, path, flags in (
            (0, Path(os.devnull), os.O_RDONLY),
            (1, self.out, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            (2, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ):
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, fd)
            if opened > 2:
                os.close(opened)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))

    def _main(self) -> int:
        module, words = self.command[2], self.command[3:]
        label = f"qbb-{self.name}"[:COMMAND_LENGTH]
        _libc.prctl(PR_SET_NAME, label.encode(), 0, 0, 0)
        unit = sys.modules[module]
        sys.argv = [str(unit.__file__), *words]
        try:
            status = unit.main()
        except SystemExit as leaving:
            status = leaving.code
        sys.stdout.flush()
        sys.stderr.flush()
        return status if isinstance(status, int) else 1 if status else 0


class WarmRun(Run):
    """A run whose units are forks. `made(what, name)` hears of each namespace and process that is made, `started` of
    each process that starts."""

    def __init__(self, made: Callable[[str, str], None], started: Callable[[Process], None]) -> None:
        super().__init__()
        self._made, self._started = made, started

    def namespace(self, name: str) -> str:
        self._made("namespace", f"{self.id}-{name}")
        return super().namespace(name)

    def program(self, name: str, namespace: str, command: Sequence[str], mounts: int | None) -> Process:
        self._made("process", name)
        if mounts is not None or list(command[:2]) != [sys.executable, "-m"]:
            return super().program(name, namespace, command, mounts)
        return WarmProcess(name, namespace, command, self.directory, self._started)


def _enter(namespace: Path) -> None:
    """Raises OSError."""
    fd = os.open(namespace, os.O_RDONLY)
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")


def warm_up(modules: set[str]) -> None:
    """Loads what the forks will run, and tells the collector to leave those pages alone, so that they stay shared."""
    for module in sorted(modules):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
