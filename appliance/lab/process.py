"""Programs inside a network namespace. Each has two files: NAME.out and NAME.log (standard error)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from appliance.lab import namespaces

# What a service manager says to its own units is not meant for ours.
FOREIGN = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "JOURNAL_STREAM",
           "CREDENTIALS_DIRECTORY")  # fmt: skip
STOP_S = 5.0
# The kernel kills the program when the one that started it dies, however that dies.
WITH_US = ("setpriv", "--pdeathsig", "KILL")


def python(module: str, *words: str) -> list[str]:
    """A module of this package, by this interpreter."""
    return [sys.executable, "-m", module, *words]


class Process:
    """A program that can be started again. `mounts`: process id whose mount namespace it shares, or None."""

    def __init__(
        self, name: str, namespace: str, command: Sequence[str], directory: Path, mounts: int | None = None
    ) -> None:
        self.name, self.command = name, list(command)
        self.out, self.log = directory / f"{name}.out", directory / f"{name}.log"
        self._enter = ["nsenter", f"--net={namespaces.path(namespace)}"]
        if mounts is not None:
            # Entering a mount namespace would leave the working directory, where the package may be.
            self._enter += [f"--mount=/proc/{mounts}/ns/mnt", f"--wdns={Path.cwd()}"]
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Raises OSError."""
        assert not self.running, f"{self.name} runs already"
        environment = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        with self.out.open("ab") as out, self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*self._enter, *WITH_US, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
                start_new_session=True,  # the terminal's Ctrl-C is for the one who started the lab
            )

    @property
    def pid(self) -> int:
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def status(self) -> int | None:
        """Exit status; negative for a signal; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        if self._popen is not None:
            self._popen.send_signal(number)

    def wait(self, limit_s: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        assert self._popen is not None, f"{self.name} was never started"
        return self._popen.wait(limit_s)

    def kill(self) -> None:
        """SIGKILL: no time for anything."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL where that does not help."""
        if not self.running:
            return
        self.signal(signal.SIGTERM)
        try:
            self.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self) -> str:
        """Its standard error up to now."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def printed(self) -> str:
        """Its standard output up to now."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""


def stop_all(processes: Sequence[Process]) -> None:
    """All at once, so that none waits for another."""
    for process in processes:
        if process.running:
            process.signal(signal.SIGTERM)
    for process in processes:
        process.stop()
