"""A data plane's link on a real store and C engine, with device.sock, in the test's own process."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from appliance import config
from appliance.native import linksecret
from appliance.native.dataplane import DataPlane
from appliance.services.deviceport import DevicePort
from appliance.services.linkunit import LinkUnit
from appliance.services.runtime import Loop

BLOCK = bytes(range(256)) * 16


class Bench:
    """One node with one link, and a device's end of the socket. A second one in the folder is a restart."""

    def __init__(self, folder: Path) -> None:
        secret = folder / "secret"
        if not secret.exists():
            linksecret.make(secret, 8192)
        text = f"""
            [node]
            name = "paris"
            address = "1.1.1.1"
            state_directory = "{folder}/state"
            runtime_directory = "{folder}"
            [[link]]
            name = "vienna"
            peer = "1.1.1.2"
            listen = "127.0.0.1:7301"
            remote = "127.0.0.1:7302"
            secret = "{secret}"
            [[link.device]]
            name = "d1"
            fibre = "unix:{folder}/fibre"
        """
        self.node = config.parse(text)
        self.loop = Loop()
        self.plane = DataPlane(self.node.address)
        self.unit = LinkUnit(self.loop, self.plane, self.node, self.node.links[0], secret, lambda: None)
        self.unit.start()
        self.port = DevicePort(self.loop, self.node.device_socket, {"vienna": self.unit})

    def connect(self) -> socket.socket:
        device = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        device.connect(str(self.node.device_socket))
        device.settimeout(5)
        return device

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0.01)

    def ask(self, device: socket.socket, message: Any, fds: tuple[int, ...] = ()) -> dict[str, Any]:
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(device, [data], list(fds))
        self.turn()
        answer: dict[str, Any] = json.loads(device.recv(4096))
        return answer

    def offer(self, device: socket.socket, block_id: Any, content: bytes, length: Any = None) -> dict[str, Any]:
        fd = os.memfd_create("block", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, content)
            message = {"type": "block", "id": block_id, "length_bytes": len(content) if length is None else length}
            return self.ask(device, message, (fd,))
        finally:
            os.close(fd)

    def hello(self) -> socket.socket:
        device = self.connect()
        assert self.ask(device, {"type": "hello", "link": "vienna", "device": "d1"}) == {"type": "ok"}
        return device

    def files(self) -> dict[str, bytes]:
        """Device blocks in the store."""
        folder = self.unit.store.directory / "blocks"
        return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("ffff")}

    def close(self) -> None:
        self.unit.close()
        self.plane.stop()
