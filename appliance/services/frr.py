"""The unit qbb-frr: FRR's zebra and ospfd for this node, in the network namespace that it is started in.

    python -m appliance.services.frr --config /etc/qbb/node.toml

For where no systemd runs them, as in a lab; frrunit.py is for the units qbb-zebra and qbb-ospfd. It writes their
configuration, starts both, starts each again when it dies, and ends them when it ends. They have no vtys on TCP;
ospfd's API on TCP 2607 is on every address of the namespace, so there may be loopback and the node's TUNs only. Their
run folder is /run/frr/NAME, by the name of the namespace, else of the node.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from appliance.config import LinkConfig, NodeConfig
from appliance.routing import cost, frrconfig
from appliance.services import journal, namespace, notify, startup
from appliance.services.control import ControlServer
from appliance.services.runtime import Loop

RUN_FOLDER = Path("/run/frr")
STATE_FOLDER = Path("/var/lib/frr")  # newer ones want a folder in it
USER = "frr"
START_AGAIN_S = 1.0
STOP_WAIT_S = 3.0
ZEBRA_SOCKET = "zserv.api"
CONFIGURATIONS = {"zebra": frrconfig.zebra, "ospfd": frrconfig.ospfd}
PROGRAMS = tuple(CONFIGURATIONS)
LOOK_AGAIN_S = 0.02


class Missing(Exception):
    """What FRR needs is not here; the text says what to do."""


def folder(node: NodeConfig) -> Path:
    return RUN_FOLDER / (node.routing.namespace or node.name)


def vty_socket(node: NodeConfig) -> Path:
    return folder(node) / "ospfd.vty"


def settings(node: NodeConfig) -> frrconfig.Settings:
    return frrconfig.Settings(
        node.name,
        node.address,
        node.routing.area,
        node.routing.role == "qan",
        node.routing.hello_interval_s,
        node.routing.dead_interval_s,
        tuple(_interface(node, index, link) for index, link in enumerate(node.routed_links)),
    )


def _interface(node: NodeConfig, index: int, link: LinkConfig) -> frrconfig.Interface:
    assert link.network is not None
    near, far = frrconfig.ends(node.address, link.peer, link.network)
    first = link.cost if isinstance(link.cost, int) else cost.cost_of(link.key_rate_bps, 0)
    return frrconfig.Interface(link.name, frrconfig.tun_name(index), near, far, node.area_of(link), first)


def check(where: Path) -> tuple[int, int]:
    """The version that is here. Raises Missing."""
    for program in PROGRAMS:
        if not os.access(where / program, os.X_OK):
            raise Missing(f"there is no {where / program}: install FRR (Debian package frr), or set routing.frr")
    try:
        told = subprocess.run([where / "ospfd", "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{where / 'ospfd'} --version does not run: {error}") from None
    version = frrconfig.version_of(told.stdout)
    first, below = (".".join(map(str, limit)) for limit in (frrconfig.VERSION_FROM, frrconfig.VERSION_BELOW))
    if version is None:
        raise Missing(f"{where / 'ospfd'} does not tell its version; FRR from {first} and below {below} is wanted")
    if not frrconfig.VERSION_FROM <= version < frrconfig.VERSION_BELOW:
        listed = ".".join(map(str, version))
        raise Missing(f"{where / 'ospfd'} is version {listed}; FRR from {first} and below {below} is wanted")
    return version


def prepare(node: NodeConfig, programs: Sequence[str]) -> None:
    """Their folder and configuration, by root. Raises OSError, LookupError."""
    where, known = folder(node), settings(node)
    for path in (RUN_FOLDER, where):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    kept = STATE_FOLDER / where.name
    if STATE_FOLDER.is_dir():
        kept.mkdir(exist_ok=True)
    for path in (where, kept):
        if path.is_dir():
            shutil.chown(path, USER, USER)
    if "zebra" in programs:
        (where / ZEBRA_SOCKET).unlink(missing_ok=True)
    for program in programs:
        path = where / f"{program}.conf"
        path.write_text(CONFIGURATIONS[program](known))
        path.chmod(0o640)
        shutil.chown(path, USER, USER)


def command(node: NodeConfig, program: str) -> list[str]:
    """No vty on TCP; ospfd with its API."""
    where = folder(node)
    common = [str(node.routing.frr / program), "-P", "0", "-N", where.name, "-f", str(where / f"{program}.conf")]
    return [*common, "-a"] if program == "ospfd" else common


def end_left(node: NodeConfig) -> list[str]:
    """Ends daemons that live on though their unit was killed; returns which. Two of a kind would both be this node."""
    commands = [command(node, program) for program in PROGRAMS]
    left = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] in commands]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, STOP_WAIT_S)
    return sorted(Path(process.info["cmdline"][0]).name for process in left)


class Daemons:
    """zebra and ospfd as children. Raises Missing, OSError."""

    def __init__(self, loop: Loop, node: NodeConfig) -> None:
        self._loop, self._node = loop, node
        self.version = check(node.routing.frr)
        self._folder = folder(node)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._pidfds: dict[str, int] = {}
        self._stopping = False
        if left := end_left(node):
            journal.write("frr-ended", f"ended {' and '.join(left)}, which an earlier unit had left", status="left")
        prepare(node, PROGRAMS)

    def start(self) -> None:
        self._start("zebra")
        self._start("ospfd")

    def _start(self, program: str) -> None:
        if self._stopping:
            return
        if program == "ospfd" and not (self._folder / ZEBRA_SOCKET).exists():
            # ospfd that does not find zebra tries again only after 10 s.
            self._loop.after(LOOK_AGAIN_S, lambda: self._start(program))
            return
        child = subprocess.Popen(command(self._node, program), stdin=subprocess.DEVNULL)
        self._children[program] = child
        self._pidfds[program] = pidfd = os.pidfd_open(child.pid)
        self._loop.watch(pidfd, lambda events: self._ended(program))

    def _ended(self, program: str) -> None:
        self._forget(program)
        status = self._children.pop(program).wait()
        if program == "zebra":
            (self._folder / ZEBRA_SOCKET).unlink(missing_ok=True)
        why = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        journal.write("frr-ended", f"{program} {why}; starting it again", program=program, status=status)
        self._loop.after(START_AGAIN_S, lambda: self._start(program))

    def _forget(self, program: str) -> None:
        pidfd = self._pidfds.pop(program)
        self._loop.forget(pidfd)
        os.close(pidfd)

    def status(self) -> dict[str, Any]:
        """See services/control.py."""
        return {
            "version": ".".join(map(str, self.version)),
            "running": {program: child.pid for program, child in self._children.items()},
        }

    def stop(self) -> None:
        self._stopping = True
        for program in reversed(list(self._children)):
            self._forget(program)
            child = self._children.pop(program)
            child.terminate()
            try:
                child.wait(STOP_WAIT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def main() -> int:
    parser = startup.arguments("qbb-frr", "FRR's zebra and ospfd for a QBB node")
    node = startup.configuration(parser.parse_args().config)
    loop = Loop()
    try:
        namespace.enter(node.routing.namespace)
        if strangers := namespace.strangers():
            raise Missing(f"{', '.join(strangers)} may not be in FRR's network namespace: set routing.namespace")
        daemons = Daemons(loop, node)
        node.runtime_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        control = ControlServer(loop, node.control_socket("frr"), {"status": lambda arguments: daemons.status()})
        daemons.start()
    except (Missing, OSError, LookupError) as error:
        journal.write("unit-failed", f"cannot start FRR: {error}")
        return 1
    version = daemons.status()["version"]
    journal.write("unit-started", f"zebra and ospfd {version} for node {node.name}, {len(node.routed_links)} links")
    notify.ready(f"FRR {version}")
    loop.run()
    notify.stopping()
    daemons.stop()
    control.close()
    journal.write("unit-stopped", "stopped in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
