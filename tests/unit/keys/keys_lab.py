"""Real keys services, one process a node, joined by a pump in the place of data planes: it serves each its ring.sock
and moves packets between the rings, with loss.

    service A <-> ring A <-> Pump <-> ring B <-> service B
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from appliance.client import Client
from appliance.native import ffi, lib
from appliance.native.keymem import KeyMemory
from appliance.native.ring import length_bytes
from appliance.services.control import NoAnswer, ask

RULES = f"""
[[keys.client]]
name = "lab"
uid = {os.getuid()}
keys_per_s = 1000000.0
burst_keys = 1000000
stock_keys = 4096
"""

# The schema wants a link; the keys service never touches it.
LINK = """
[[link]]
name = "pump"
peer = "{peer}"
listen = "127.0.0.1:7301"
remote = "127.0.0.1:7302"
"""


def wait_until(done: Callable[[], bool], what: str, limit_s: float = 90.0) -> None:
    """Fails loudly instead of hanging; the limit is no measure of speed."""
    end = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.005)


class Port:
    """One node's ring.sock and rings, at the pump."""

    def __init__(self, node: str, path: Path) -> None:
        self.node = node
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen()
        self.memory: KeyMemory | None = None
        self.connection: socket.socket | None = None
        self.to_keys = self.from_keys = -1

    def accept(self) -> None:
        self.drop()
        self.connection, _ = self.listener.accept()
        self.memory = KeyMemory.share(length_bytes())
        lib.qbb_ring_init(self.memory.at(0))
        lib.qbb_ring_init(self.memory.at(lib.qbb_ring_bytes()))
        self.to_keys, self.from_keys = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
        text = json.dumps({"type": "ring", "version": 1, "node": self.node}).encode()
        fds = array.array("i", [self.memory.fd, self.to_keys, self.from_keys])
        self.connection.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    def drop(self) -> None:
        if self.memory is not None:
            assert self.connection is not None and self.memory.fd is not None
            self.connection.close()
            os.close(self.memory.fd)
            os.close(self.to_keys)
            os.close(self.from_keys)
            self.memory.close()
            self.memory = None

    def take(self) -> tuple[bytes, int] | None:
        """Whole packets as Python bytes: this is a test's network, not the product."""
        assert self.memory is not None
        out, clear = ffi.new("uint8_t[]", lib.QBB_RING_SLOT_BYTES), ffi.new("size_t *")
        length = lib.qbb_ring_take(self.memory.at(lib.qbb_ring_bytes()), out, clear)
        return (bytes(ffi.buffer(out, length)), clear[0]) if length > 0 else None

    def put(self, packet: bytes, clear: int) -> None:
        if self.memory is not None and lib.qbb_ring_put(self.memory.at(0), packet, len(packet), clear) == 0:
            os.eventfd_write(self.to_keys, 1)


class Pump(threading.Thread):
    def __init__(self, loss: float = 0.0, seed: int = 1) -> None:
        super().__init__(daemon=True)
        self.loss = loss
        self.broken = False  # carries nothing
        self.moved = self.lost = 0
        self.watch: Callable[[bytes, int], None] = lambda packet, clear: None
        self._random = random.Random(seed)
        self._ports: dict[str, Port] = {}
        self._stop_reader, self._stop_writer = os.pipe()

    def add(self, node: str, path: Path) -> None:
        self._ports[node] = Port(node, path)

    def run(self) -> None:
        while True:
            ports = list(self._ports.values())
            by_fd = {port.listener.fileno(): port for port in ports}
            by_fd |= {port.from_keys: port for port in ports if port.memory is not None}
            ready, _, _ = select.select([self._stop_reader, *by_fd], [], [], 1.0)
            if self._stop_reader in ready:
                return
            for fd in ready:
                port = by_fd[fd]
                if fd == port.listener.fileno():
                    port.accept()
                    break  # descriptors have changed
                os.eventfd_read(fd)
                self._carry(port)

    def _carry(self, port: Port) -> None:
        while (taken := port.take()) is not None:
            self.watch(*taken)
            destination = self._ports.get(socket.inet_ntoa(taken[0][16:20]))
            if destination is None or self.broken or self._random.random() < self.loss:
                self.lost += 1
            else:
                self.moved += 1
                destination.put(*taken)

    def close(self) -> None:
        os.write(self._stop_writer, b"x")
        self.join()
        for port in self._ports.values():
            port.drop()
            port.listener.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)


class Node:
    def __init__(self, folder: Path, address: str, pump: Pump, rules: str = RULES, keys: str = "") -> None:
        self.address = address
        self.run = folder / address
        self.run.mkdir(mode=0o755)
        self.state = self.run / "state"
        self.state.mkdir()
        self.config = self.run / "node.toml"
        peer = "1.1.1.2" if address == "1.1.1.1" else "1.1.1.1"
        self.config.write_text(
            f'[node]\nname = "n{address[-1]}"\naddress = "{address}"\n'
            f'state_directory = "{self.state}"\nruntime_directory = "{self.run}"\n'
            f"{LINK.format(peer=peer)}\n"
            f'[keys]\nsocket_mode = "0666"\nshelf_keys = 8192\n{keys}\n{rules}'
        )
        pump.add(address, self.run / "ring.sock")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.run / "pfkey.sock"

    @property
    def audit(self) -> str:
        return (self.state / "keys" / "audit.log").read_text()

    def start(self) -> None:
        self.log = (self.run / "log").open("ab")
        command = [sys.executable, "-m", "appliance.services.keys", "--config", str(self.config)]
        self.process = subprocess.Popen(command, stderr=self.log)
        wait_until(self._serves, f"keys service of {self.address}: {(self.run / 'log').read_text()}")

    def _serves(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.run / "log").read_text()
        with contextlib.suppress(NoAnswer):
            return bool(self.status()["data_plane"])
        return False

    def status(self) -> dict[str, object]:
        found: dict[str, object] = ask(self.run / "keys.control", "status")
        return found

    def sessions(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = ask(self.run / "keys.control", "sessions")["sessions"]
        return found

    def client(self, timeout_s: float = 20.0) -> Client:
        return Client(self.socket, timeout_s)

    def end(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None
            self.log.close()


class Lab:
    """Two nodes, 1.1.1.1 and 1.1.1.2."""

    def __init__(self, folder: Path, loss: float = 0.0, rules: str = RULES, keys: str = "") -> None:
        self.pump = Pump(loss)
        self.a = Node(folder, "1.1.1.1", self.pump, rules, keys)
        self.b = Node(folder, "1.1.1.2", self.pump, rules, keys)
        self.pump.start()

    def start(self) -> None:
        self.a.start()
        self.b.start()

    def close(self) -> None:
        self.a.end()
        self.b.end()
        self.pump.close()
