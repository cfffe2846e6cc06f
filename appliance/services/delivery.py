"""The device's side of device.sock: blocks to the data plane, each kept until it is accepted.

Messages are JSON texts over SOCK_SEQPACKET; a block's message carries its memory file by SCM_RIGHTS. After a
lost connection everything unaccepted is sent again: the data plane answers "accepted" for a block it already
has.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.devices.block import Block
from appliance.services import journal
from appliance.services.runtime import READ, WRITE, Loop, Timer
from appliance.services.unitsocket import connect

FIRST_RETRY_S, LONGEST_RETRY_S = 0.2, 5.0
REFUSED_RETRY_S = 1.0
FULL_RETRY_S = 5.0  # the store has its fill: that is no fault, and lasts
MOST_OUTSTANDING = 8
LONGEST_MESSAGE = 65536


@dataclass
class Counters:
    accepted: int = 0
    refused: int = 0


class Delivery:
    """`connected` is called when the data plane has answered the hello."""

    def __init__(
        self, loop: Loop, path: Path, link: str, device: str, most_pending: int, connected: Callable[[], None]
    ) -> None:
        self.state = "not connected"
        self.counters = Counters()
        self._loop, self._path, self._link, self._device = loop, path, link, device
        self._most_pending = most_pending
        self._connected = connected
        self._pending: dict[int, Block] = {}
        self._outstanding: set[int] = set()
        self._resting: dict[int, Timer] = {}  # refused for now
        self._messages: deque[dict[str, Any]] = deque(maxlen=64)
        self._socket: socket.socket | None = None
        self._retry_s = FIRST_RETRY_S
        self._ready = False

    @property
    def pending(self) -> int:
        return len(self._pending)

    def offer(self, block: Block) -> bool:
        """Takes the block over; False when there is no room, and the block is wiped."""
        if len(self._pending) >= self._most_pending or block.id in self._pending:
            block.close()
            return False
        self._pending[block.id] = block
        self._flush()
        return True

    def tell(self, message: dict[str, Any]) -> None:
        """An alarm or status; lost when the data plane is not there (`connected` tells it anew)."""
        if self._ready:
            self._messages.append(message)
            self._flush()

    def start(self) -> None:
        try:
            connection = connect(self._path)
        except OSError as error:
            self._later(f"not connected: {error.strerror or error}")
            return
        self._socket = connection
        self._loop.watch(connection.fileno(), self._event)
        self._messages.append({"type": "hello", "link": self._link, "device": self._device})
        self._flush()

    def stop(self) -> None:
        """Gives up what was not accepted: the other end's block of the same id will find no match and go.

        What is in transit may be accepted after all, and goes unwiped: a message and its descriptor are read from the
        queue even after the sender has ended."""
        self._disconnect()
        for block in self._pending.values():
            block.close()
        self._pending.clear()

    def _later(self, reason: str) -> None:
        self.state = reason
        self._loop.after(self._retry_s, self.start)
        self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
        self._socket, self._ready = None, False
        self._messages.clear()
        self._outstanding.clear()
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()

    def _lost(self, reason: str) -> None:
        was_ready = self._ready
        self._disconnect()
        if was_ready:
            journal.write("dataplane-lost", reason, link=self._link, device=self._device)
        self._later(reason)

    def _event(self, events: int) -> None:
        if events & READ:
            self._receive()
        self._flush()

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(LONGEST_MESSAGE)
            message = json.loads(data) if data else None
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lost(f"the connection to the data plane broke: {error}")
            return
        if not isinstance(message, dict):
            self._lost("the data plane ended the connection")
        elif message.get("type") == "ok":
            self._ready, self.state, self._retry_s = True, "connected", FIRST_RETRY_S
            self._connected()
        elif message.get("type") == "accepted":
            self._accepted(message.get("id"))
        elif message.get("type") == "refused":
            self._refused(message)

    def _accepted(self, id: object) -> None:
        if isinstance(id, int) and id in self._outstanding:
            self._answered(id)
            self._pending.pop(id).close()
            self.counters.accepted += 1

    def _answered(self, id: int) -> None:
        self._outstanding.discard(id)
        self._pending[id].unanswered -= 1

    def _refused(self, message: dict[str, Any]) -> None:
        id, reason = message.get("id"), str(message.get("reason", "no reason given"))
        if not isinstance(id, int):
            journal.write("device-refused", reason, link=self._link, device=self._device)
            self._disconnect()
            self._retry_s = LONGEST_RETRY_S
            self._later(f"refused: {reason}")
            return
        if id not in self._outstanding:
            return
        self._answered(id)
        full = message.get("full") is True
        if not full:
            journal.write("block-refused", reason, link=self._link, device=self._device, block=id)
        if message.get("retry") is True:
            rest_s = FULL_RETRY_S if full else REFUSED_RETRY_S
            self._resting[id] = self._loop.after(rest_s, lambda: self._rested(id))
        else:
            self.counters.refused += 1
            self._pending.pop(id).close()

    def _rested(self, id: int) -> None:
        self._resting.pop(id, None)
        self._flush()

    def _flush(self) -> None:
        """Sends what may be sent; watches for room when the socket is full."""
        if self._socket is None:
            return
        try:
            while self._messages:
                self._socket.send(json.dumps(self._messages[0]).encode())
                self._messages.popleft()
            self._send_blocks(self._socket)
            wanted = READ
        except BlockingIOError:
            wanted = READ | WRITE
        except OSError as error:
            self._lost(f"the connection to the data plane broke: {error.strerror or error}")
            return
        self._loop.watch(self._socket.fileno(), self._event, wanted)

    def _send_blocks(self, connection: socket.socket) -> None:
        for id, block in self._pending.items():
            if not self._ready or len(self._outstanding) >= MOST_OUTSTANDING:
                return
            if id in self._outstanding or id in self._resting:
                continue
            message = {
                "type": "block",
                "id": id,
                "length_bytes": block.length_bytes,
                "qber": block.qber,
                "time_ns": block.time_ns,
            }
            socket.send_fds(connection, [json.dumps(message).encode()], [block.fd])
            self._outstanding.add(id)
            block.unanswered += 1
