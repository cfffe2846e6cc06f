"""A root shell into a virtual machine whose image has none: a unit handed in from outside, as only the owner of the
(virtual) hardware can. It runs one command after another, on a port that nobody else has."""

from __future__ import annotations

import base64
import socket
import time
from dataclasses import dataclass

from images.vm import Machine

UNIT = r"""[Unit]
Description=Shell for the owner of this virtual machine
DefaultDependencies=no
After=systemd-tmpfiles-setup-dev.service
ConditionPathExists=!/etc/initrd-release
Conflicts=shutdown.target
Before=shutdown.target
StartLimitIntervalSec=0

[Service]
ExecStart=/bin/bash -c 'exec 3<>/dev/virtio-ports/qbb.shell; while read -r n line <&3; do \
    out=$$(bash -c "$$(base64 -d <<<"$$line")" 2>&1 </dev/null); \
    echo "$$n $$? $$(base64 -w0 <<<"$$out")" >&3; done'
Restart=always
RestartSec=1
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin HOME=/root
"""
CREDENTIALS = {
    "systemd.extra-unit.vm-shell.service": UNIT.encode(),
    "systemd.unit-dropin.sysinit.target~50-vm-shell": b"[Unit]\nWants=vm-shell.service\n",
}
READY_S = 600.0
ASK_AGAIN_S = 3.0


@dataclass(frozen=True)
class Said:
    status: int
    text: str


class Shell:
    """Of a machine that was started with CREDENTIALS among its credentials."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._socket: socket.socket | None = None
        self._received = b""
        self._number = 0

    def run(self, command: str, limit_s: float = 120.0) -> Said:
        """Of a machine that is `ready`. Raises TimeoutError, OSError."""
        self._number += 1
        line = f"{self._number} {base64.b64encode(command.encode()).decode()}\n".encode()
        end = time.monotonic() + limit_s
        self._connected().sendall(line)
        while True:
            number, status, text = self._line(end, command).split(" ", 2)
            if int(number) == self._number:
                return Said(int(status), base64.b64decode(text).decode(errors="replace").rstrip("\n"))

    def ready(self, limit_s: float = READY_S) -> None:
        """What is said to a machine that does not listen yet is lost, so this says it again and again."""
        end = time.monotonic() + limit_s
        while True:
            try:
                self.run("true", ASK_AGAIN_S)
                return
            except TimeoutError:
                if time.monotonic() > end:
                    raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket, self._received = None, b""

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(str(self._machine.shell_socket))
        return self._socket

    def _line(self, end: float, command: str) -> str:
        connection = self._connected()
        while b"\n" not in self._received:
            connection.settimeout(max(end - time.monotonic(), 0.01))
            try:
                data = connection.recv(65536)
            except TimeoutError:
                raise TimeoutError(f"{self._machine.name} did not answer: {command[:200]}") from None
            if not data:
                raise ConnectionError(f"{self._machine.name} went off")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.decode()
