"""A Debian 13 with real systemd in systemd-nspawn, over a tree that nobody writes to. Up in a second or two.

What it writes goes to an overlay in memory, mounted in a mount namespace of its own: with its last process all of it
is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from appliance.lab import Run, until
from appliance.lab import namespaces as netns
from appliance.lab.process import WITH_US

BOOT_S = 300.0
COMMAND_S = 300.0
MEMORY_MIB = 400


class Failed(AssertionError):
    """A command in the machine did not end with status 0."""


class Machine:
    """`run` cleans up after it. Files put into `stage` before `start` are in its root."""

    def __init__(self, run: Run, name: str, tree: Path) -> None:
        self.name, self._tree = name, tree
        self.folder = run.directory / name
        self.stage = self.folder / "stage"
        self.shared = self.folder / "shared"  # seen inside as /shared, under both names at any time
        for folder in (self.folder, self.stage, self.shared):
            folder.mkdir()
        self.namespace = run.namespace(name)
        self._log = self.folder / "console"
        self._cgroup = own_cgroup(self.namespace)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self.leader = 0
        run.at_end(self.stop)

    def _script(self) -> str:
        memory, root = self.folder / "memory", self.folder / "root"
        steps = [
            ["mkdir", "-p", memory, root],
            ["mount", "-t", "tmpfs", "-o", f"size={MEMORY_MIB}m,mode=0755", "machine", memory],
            ["mkdir", memory / "upper", memory / "work"],
            ["cp", "-a", f"{self.stage}/.", memory / "upper"],
            ["chmod", "0755", memory / "upper"],
            ["mount", "-t", "overlay", "machine", root, "-o",
             f"lowerdir={self._tree},upperdir={memory}/upper,workdir={memory}/work"],
            ["exec", "systemd-nspawn", "-q", "-D", root, "-M", self.namespace, "-b", "--register=no", "--keep-unit",
             f"--network-namespace-path={netns.path(self.namespace)}", "--kill-signal=SIGRTMIN+3", "--console=pipe",
             "--link-journal=no", "--resolv-conf=off", "--timezone=off", f"--bind={self.shared}:/shared",
             # Key memory is locked, which nspawn forbids unless asked.
             "--capability=CAP_IPC_LOCK,CAP_NET_ADMIN,CAP_SYS_RESOURCE", "--system-call-filter=@memlock memfd_secret",
             "--bind=/dev/net/tun",
             "--setenv=SYSTEMD_LOG_COLOR=0"],
        ]  # fmt: skip
        lines = [shlex.join(str(word) for word in step) for step in steps]
        if self._cgroup is not None:
            lines = [f"echo $$ > {self._cgroup}/cgroup.procs", *lines]
        return "export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1\n" + "\n".join(lines)

    def start(self) -> None:
        for program in ("systemd-nspawn", "nsenter"):
            assert shutil.which(program), (
                f"there is no {program}: make install brings it (systemd-container, util-linux)"
            )
        command = [*WITH_US, "unshare", "--mount", "--propagation", "private", "sh", "-ec", self._script()]
        with self._log.open("ab") as log:
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.leader = until(self._find_leader, lambda: f"{self.name} boots: {self.said()}", BOOT_S)
        until(self._up, lambda: f"{self.name} is up: {self.said()}", BOOT_S)

    def _find_leader(self) -> int:
        assert self._nspawn is not None and self._nspawn.poll() is None, f"nspawn ended: {self.said()}"
        pid = self._nspawn.pid
        if Path(f"/proc/{pid}/comm").read_text().strip() != "systemd-nspawn":
            return 0
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return next((int(c) for c in children if Path(f"/proc/{c}/comm").read_text().strip() == "systemd"), 0)

    def _up(self) -> bool:
        ran = self.try_run("systemctl", "is-system-running")
        return ran.stdout.strip() in ("running", "degraded")

    def try_run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command inside, by root."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "TERM": "dumb", "LANG": "C.UTF-8"}
        return subprocess.run(
            ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "-C", "--", *command],
            input=text, capture_output=True, text=True, timeout=COMMAND_S, env=environment, check=False,
        )  # fmt: skip

    def run(self, *command: str, text: str | None = None) -> str:
        """Its output. Raises Failed."""
        ran = self.try_run(*command, text=text)
        if ran.returncode:
            raise Failed(f"{self.name}: {shlex.join(command)} ended with {ran.returncode}: {ran.stdout} {ran.stderr}")
        return ran.stdout

    def journal(self, *words: str) -> str:
        """What journalctl tells."""
        return self.run("journalctl", "--no-pager", *words)

    def cursor(self) -> str:
        """Where the journal ends now; for --after-cursor."""
        return self.journal("-n0", "--show-cursor").split("cursor: ")[1].strip()

    def entries(self, *words: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.journal("-o", "json", *words).splitlines()]

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        told = self.run("systemctl", "show", unit, *(f"-p{name}" for name in names))
        return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)

    def main_pid(self, unit: str) -> int:
        """As this machine counts; 0 when it does not run."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def active(self, unit: str) -> bool:
        return self.show(unit, "ActiveState")["ActiveState"] == "active"

    def path(self, path: str) -> Path:
        """A file inside, as seen from outside."""
        return Path(f"/proc/{self.leader}/root{path}")

    def said(self) -> str:
        return self._log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        if self._nspawn is not None and self._nspawn.poll() is None:
            if self.leader:
                os.kill(self.leader, signal.SIGKILL)
            self._nspawn.kill()
            self._nspawn.wait()
        if self._cgroup is not None:
            with contextlib.suppress(OSError):  # it may be gone
                (self._cgroup / "cgroup.kill").write_text("1")
                until(self._empty, "the machine's last process ends")
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()

    def _empty(self) -> bool:
        assert self._cgroup is not None
        return "populated 0" in (self._cgroup / "cgroup.events").read_text()


def own_cgroup(name: str) -> Path | None:
    """Machines in one control group would share those of their units, and kill each other's processes."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            path = Path(place) / name
            path.mkdir(exist_ok=True)
            return path
    return None
