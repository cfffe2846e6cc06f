"""Talking to appliances in virtual machines."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from images.vm import Machine
from images.vmshell import Shell

PROGRAMS = Path(__file__).parent / "guest"
BOOT_S = 600.0
COMMAND_S = 240.0
LOOK_AGAIN_S = 2.0
ASK_S = 20.0


class Guest:
    """A machine with a root shell in it."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.name = machine, machine.name
        self._shell = Shell(machine)
        self._boot = ""

    def up(self) -> None:
        """Waits until it answers, and all that it starts at boot has been started."""
        try:
            self.again()
        except (TimeoutError, OSError) as error:
            raise AssertionError(f"{self.name} did not boot: {error}; its console: {self.console()[-3000:]}") from None
        self.until("systemctl is-system-running", lambda said: said in ("running", "degraded"), BOOT_S)
        self._boot = self.run("cat /proc/sys/kernel/random/boot_id")

    def again(self) -> None:
        """Waits until it answers: one whose QEMU is another one now, or that waits for somebody at its console."""
        self._shell.close()
        self._shell = Shell(self.machine)
        self._shell.ready(BOOT_S)

    def rebooted(self) -> None:
        """Waits until it went down and is up again."""
        before = self._boot
        self._until_boot(lambda boot: boot != before, BOOT_S)
        self.up()

    def rolled_back(self, version: str, limit_s: float = 4 * BOOT_S) -> None:
        """Waits until that version runs, after boots of others."""
        end = time.monotonic() + limit_s
        other = False
        while True:
            with contextlib.suppress(TimeoutError, ConnectionError):
                now = self._shell.run(". /usr/lib/os-release; echo $IMAGE_VERSION", ASK_S).text
                if now == version and other:
                    self.up()
                    return
                other = other or now != version
            assert time.monotonic() < end, f"{self.name}: {version} does not come back: {self.console()[-2000:]}"
            time.sleep(LOOK_AGAIN_S)

    def _until_boot(self, good: Callable[[str], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while True:
            with contextlib.suppress(TimeoutError):
                if good(self._shell.run("cat /proc/sys/kernel/random/boot_id", ASK_S).text):
                    return
            assert time.monotonic() < end, f"{self.name} did not start again: {self.console()[-2000:]}"

    def run(self, command: str, limit_s: float = COMMAND_S) -> str:
        """What it said. Fails when its status is not 0."""
        said = self._shell.run(command, limit_s)
        assert said.status == 0, f"{self.name}: {command[:200]}: status {said.status}: {said.text[-2000:]}"
        return said.text

    def status(self, command: str) -> int:
        return self._shell.run(command, COMMAND_S).status

    def until(self, command: str, good: Callable[[str], object], limit_s: float = COMMAND_S) -> str:
        end = time.monotonic() + limit_s
        while True:
            said = self._shell.run(command, COMMAND_S).text
            if good(said):
                return said
            assert time.monotonic() < end, f"{self.name}: {command} still says: {said[-2000:]}\n{self.troubles()}"
            time.sleep(LOOK_AGAIN_S)

    def program(self, name: str) -> str:
        """A program of PROGRAMS, brought to the machine; the command that runs it."""
        text = base64.b64encode((PROGRAMS / name).read_bytes()).decode()
        self.run(f"base64 -d <<< {text} > /run/{name}")
        return f"python3 -P /run/{name}"

    def service(self, unit: str, command: str) -> None:
        self.run(f"systemd-run --quiet --collect --unit={unit} {command}")

    def console(self) -> str:
        return self.machine.console_log.read_text(errors="replace")

    def troubles(self) -> str:
        """For a failure's report."""
        commands = (
            "systemctl --failed --no-pager --plain",
            "journalctl -b -p warning --no-pager -o cat -u 'qbb-*' -u 'appliance-*' | tail -30",
            "cat /run/appliance-site/report.json",
        )
        return self._shell.run("; ".join(commands)).text
