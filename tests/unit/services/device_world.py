"""Real processes for the tests of the device unit: a fibre, device units, and a data plane's end of device.sock.

The peer takes blocks into files as the data plane does and keeps their digests, so that both ends can be compared.
"""

from __future__ import annotations

import array
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import appliance
from appliance.devices import fibrewire
from appliance.native import blockfile
from appliance.services import control

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(appliance.__file__).parents[1])}
PATIENCE_S = 90.0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The condition's first true value; fails after a time that no healthy machine needs."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"never came: {what}")


class DataPlaneEnd:
    """Serves device.sock in a thread. `accepting` False: blocks are received and not answered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks: dict[int, bytes] = {}
        self.firsts: dict[int, bytes] = {}
        self.received: list[int] = []
        self.messages: list[dict[str, Any]] = []
        self.accepting = True
        self.refuse_next: dict[str, Any] | None = None
        self.length_bytes = 0
        (path.parent / "blocks").mkdir()
        self._store = os.open(path.parent / "blocks", os.O_RDONLY | os.O_DIRECTORY)
        self._copies = 0
        self._listener = control.listen(path, socket.SOCK_SEQPACKET, 0o600)
        self._listener.setblocking(True)
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        while True:
            try:
                data, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(4))
                if not data:
                    return
                fds = array.array("i")
                for _, _, content in ancillary:
                    fds.frombytes(content)
                self._handle(connection, json.loads(data), list(fds))
            except OSError:
                return

    def _handle(self, connection: socket.socket, message: dict[str, Any], fds: list[int]) -> None:
        if message["type"] == "block":
            self._block(connection, message, fds[0])
        elif message["type"] == "hello":
            self.messages.append(message)
            connection.send(json.dumps({"type": "ok"}).encode())
        else:
            self.messages.append(message)

    def _block(self, connection: socket.socket, message: dict[str, Any], fd: int) -> None:
        id, length = message["id"], message["length_bytes"]
        self._copies += 1
        blockfile.accept(self._store, str(self._copies), fd, length)
        os.close(fd)
        content = (self.path.parent / "blocks" / str(self._copies)).read_bytes()
        self.received.append(id)
        self.length_bytes = length
        self.firsts.setdefault(id, content[:64])
        if self.refuse_next is not None:
            refusal, self.refuse_next = self.refuse_next, None
            connection.send(json.dumps({"type": "refused", "id": id, **refusal}).encode())
        elif self.accepting:
            self.blocks[id] = hashlib.sha256(content).digest()
            connection.send(json.dumps({"type": "accepted", "id": id}).encode())

    def alarms(self) -> list[tuple[str, bool]]:
        return [(m["cause"], m["on"]) for m in self.messages if m["type"] == "alarm"]

    def hang_up(self) -> None:
        for connection in self._connections:
            connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join(5)
        os.close(self._store)


class Node:
    """One node's runtime directory, its data plane's end and its device unit."""

    def __init__(self, directory: Path, name: str, address: str, peer: str, fibre: str, extra: str = "") -> None:
        self.directory = directory / name
        self.directory.mkdir()
        self.config = self.directory / "node.toml"
        self.config.write_text(
            f'[node]\nname = "{name}"\naddress = "{address}"\nstate_directory = "{self.directory}/state"\n'
            f'runtime_directory = "{self.directory}"\n'
            f'[[link]]\nname = "fibre"\npeer = "{peer}"\nlisten = "{address}:7301"\nremote = "{peer}:7301"\n'
            f'[[link.device]]\nname = "dev"\nfibre = "{fibre}"\n{extra}'
        )
        self.plane = DataPlaneEnd(self.directory / "device.sock")
        self.log = (self.directory / "log").open("w+")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "appliance.services.device", "dev", "--config", str(self.config)]
        self.process = subprocess.Popen(words, env=ENVIRONMENT, stderr=self.log)

    def answers(self) -> bool:
        try:
            return bool(self.status())
        except control.NoAnswer:
            return False

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(10)
        self.process = None
        return code

    def status(self) -> dict[str, Any]:
        answer = control.ask(self.directory / "device-dev.control", "status")
        assert isinstance(answer, dict)
        return answer

    def journal(self) -> str:
        return (self.directory / "log").read_text()

    def close(self) -> None:
        self.stop()
        self.plane.close()
        self.log.close()


class World:
    """Two nodes on one fibre that makes a few hundred blocks a second."""

    def __init__(self, directory: Path, extra: str = "", address: str = "") -> None:
        self.fibre_address = address or f"unix:{directory}/fibre.sock"
        self.fibre = self.start_fibre()
        self.alice = Node(directory, "alice", "10.9.0.1", "10.9.0.2", self.fibre_address, extra)
        self.bob = Node(directory, "bob", "10.9.0.2", "10.9.0.1", self.fibre_address, extra)

    def start_fibre(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "appliance.devices.fibre", "--socket", self.fibre_address]
        words += ["--distance-km", "25", "--speed", "400", "--interval-s", "0.1", "--block-bytes", "4096"]
        fibre = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE)
        assert fibre.stdout is not None
        assert b"25 km" in fibre.stdout.readline()
        return fibre

    def stop_fibre(self) -> None:
        self.fibre.terminate()
        self.fibre.wait(10)
        assert self.fibre.stdout is not None
        self.fibre.stdout.close()

    def start(self) -> None:
        self.alice.start()
        self.bob.start()
        wait_for(lambda: self.alice.answers() and self.bob.answers(), "both units")

    def ask(self, command: str, **arguments: Any) -> Any:
        return fibrewire.ask(self.fibre_address, command, **arguments)

    def common(self) -> set[int]:
        return set(self.alice.plane.blocks) & set(self.bob.plane.blocks)

    def close(self) -> None:
        self.alice.close()
        self.bob.close()
        self.stop_fibre()
