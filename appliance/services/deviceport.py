"""device.sock: where QKD devices hand their blocks to the data plane (one SEQPACKET connection a device).

A device says hello with its link and name, then sends blocks: a JSON message and a memory file with the bytes. The
answer "accepted" comes after the block is durable; a refusal says whether to try again. Alarms and status come the
same way.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from appliance.services import journal
from appliance.services.control import listen
from appliance.services.linkunit import REFUSED_QUIETLY, LinkUnit
from appliance.services.runtime import Loop

MESSAGE_BYTES = 4096
MOST_DESCRIPTORS = 4
STATUS_NUMBERS = ("qber", "rate_bps", "distance_km")


class DevicePort:
    """Accepts devices of the configured links."""

    def __init__(self, loop: Loop, path: Path, links: dict[str, LinkUnit]) -> None:
        self._loop, self._links = loop, links
        self._listener = listen(path, socket.SOCK_SEQPACKET, 0o660)
        self._connections: set[_Connection] = set()
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections.add(_Connection(self, self._loop, connection))

    def find(self, link: object, device: object) -> LinkUnit | None:
        if not isinstance(link, str) or not isinstance(device, str):
            return None
        unit = self._links.get(link)
        return unit if unit is not None and device in unit.devices else None

    def forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)


class _Connection:
    """One device."""

    def __init__(self, port: DevicePort, loop: Loop, connection: socket.socket) -> None:
        self._port, self._loop, self._connection = port, loop, connection
        self._unit: LinkUnit | None = None
        self._device = ""
        loop.watch(connection.fileno(), self._ready)

    def _ready(self, events: int) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._connection, MESSAGE_BYTES, MOST_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            self._close("the connection broke")
            return
        try:
            if not data:
                self._close("the device went away")
                return
            reply = self._answer(data, fds, truncated=bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)))
        finally:
            for fd in fds:
                os.close(fd)
        if reply is not None:
            with contextlib.suppress(OSError):
                self._connection.send(json.dumps(reply).encode())

    def _answer(self, data: bytes, fds: list[int], truncated: bool) -> dict[str, Any] | None:
        try:
            message = json.loads(data)
            kind = message["type"]
        except (ValueError, RecursionError, KeyError, TypeError):
            return {"type": "refused", "reason": "the message is no JSON object with a type", "retry": False}
        if truncated:
            return {"type": "refused", "reason": f"a message has at most {MESSAGE_BYTES} bytes", "retry": False}
        if kind == "hello":
            return self._hello(message)
        if self._unit is None:
            return {"type": "refused", "reason": "say hello first", "retry": False}
        if kind == "block":
            return self._block(self._unit, message, fds)
        if kind == "alarm":
            self._unit.alarm(self._device, str(message.get("cause", "alarm"))[:80], bool(message.get("on")))
            self._unit.devices[self._device].status["qber"] = message.get("qber")  # sooner than by the next status
        elif kind == "status":
            shown = {name: message.get(name) for name in STATUS_NUMBERS}
            numbers = {name: value for name, value in shown.items() if isinstance(value, (int, float))}
            self._unit.devices[self._device].status = numbers
        else:
            return {"type": "refused", "reason": f"unknown message {str(kind)[:40]!r}", "retry": False}
        return None

    def _hello(self, message: dict[str, Any]) -> dict[str, Any]:
        link, device = message.get("link"), message.get("device")
        unit = self._port.find(link, device)
        if unit is None:
            journal.write("device-refused", f"device {device!r} of link {link!r} is not in the configuration")
            return {"type": "refused", "reason": f"the node has no device {device!r} on a link {link!r}"}
        self._unit, self._device = unit, str(device)
        unit.device_connected(self._device, True)
        journal.write("device-connected", f"device {device}", link=unit.config.name, device=self._device)
        return {"type": "ok"}

    def _block(self, unit: LinkUnit, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        block_id, length = message.get("id"), message.get("length_bytes")
        if not isinstance(block_id, int) or not 0 <= block_id < 2**64 or not isinstance(length, int) or len(fds) != 1:
            return {
                "type": "refused",
                "id": block_id,
                "retry": False,
                "reason": "a block has an id (u64), length_bytes and one descriptor",
            }
        try:
            unit.block(self._device, block_id, length, fds[0])
        except ValueError as error:
            return {"type": "refused", "id": block_id, "reason": str(error), "retry": False}
        except OSError as error:
            reason = f"the store cannot take it: {error.strerror or error}"
            full = error.errno in REFUSED_QUIETLY
            if not full:
                journal.write("block-refused", reason, link=unit.config.name, device=self._device, block=block_id)
            return {"type": "refused", "id": block_id, "reason": reason, "retry": True, "full": full}
        return {"type": "accepted", "id": block_id}

    def _close(self, why: str) -> None:
        if self._unit is not None:
            self._unit.device_connected(self._device, False)
            journal.write("device-lost", why, link=self._unit.config.name, device=self._device)
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        self._port.forget(self)
