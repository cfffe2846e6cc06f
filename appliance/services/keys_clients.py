"""The sockets of the clients at pfkey.sock: what they ask, what waits to be read by them, when they are thrown out."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.keys import pfkey
from appliance.keys.clients import Client
from appliance.keys.effects import Give, Send
from appliance.keys.policy import Credentials
from appliance.native.shelf import NOT_RECORDED
from appliance.services.runtime import READ, WRITE

if TYPE_CHECKING:
    from appliance.services.keys import KeysService

MESSAGE_MAX_BYTES = pfkey.MESSAGE_MAX_BYTES
PUSHED_MOST = 256  # messages that nobody asked for, waiting to be read
_UCRED = struct.Struct("=3i")
_DONTWAIT = socket.MSG_DONTWAIT


def peer_credentials(connection: socket.socket) -> Credentials:
    """Who is at the other end, by the kernel's word."""
    return Credentials(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


class ClientSocket:
    """One client. While answers wait to be read, its further requests wait too, so only pushes pile up."""

    def __init__(self, service: KeysService, connection: socket.socket, client: Client) -> None:
        self._service, self.client = service, client
        self._connection = connection
        self._recv: Callable[[int, int], bytes] = connection.recv
        self._fileno = connection.fileno()
        self._backlog: deque[Send | Give] = deque()
        self._backlog_since_s = 0.0
        self._plans = client.plans
        service.loop.watch(self._fileno, self._ready)

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._drain()
        if not events & READ:
            return
        try:
            data = self._recv(MESSAGE_MAX_BYTES, _DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._service.drop_client(self.client.id)
            return
        service = self._service
        now = service.now()
        plan = self._plans.get(data[:8] + data[12:])  # plan.name_of, without the call
        given = plan.give(data[8:12], now) if plan is not None else None
        if plan is None or given is None:
            service.core.receive(self.client, data, now)
            service.after(now)
            return
        message, handle, record = given
        audit = service.audit
        result = service.shelf.hand_over(audit.fd, audit.line(record), self._fileno, message, handle, plan.places)
        if result:
            self._not_handed_over(result, plan.give_of(self.client.id, given))
        if service.core.refill(plan.session, now):
            service.after(now)

    def carry_out(self, effect: Send | Give) -> None:
        """Sends, or queues behind what waits already. The audit record of a key comes first."""
        service = self._service
        if isinstance(effect, Send):
            if self._backlog or not self._send(effect):
                self._wait(effect)
        elif self._backlog:
            try:
                service.audit.write(effect.record)
                self._wait(effect)
            except OSError:
                service.release(effect.handle)
                self._not_handed_over(NOT_RECORDED, effect)
        else:
            line = service.audit.line(effect.record)
            result = service.shelf.hand_over(
                service.audit.fd, line, self._fileno, effect.message, effect.handle, effect.places
            )
            if result:
                self._not_handed_over(result, effect)

    def _not_handed_over(self, result: int, give: Give) -> None:
        """Full: the key, recorded, waits. Not recorded: an error in its place. Else the socket broke, which reading it
        will tell."""
        if result == -errno.EAGAIN:
            self._wait(give)
        elif result == NOT_RECORDED:
            self.carry_out(Send(give.client, _not_recorded(give.message)))

    def _wait(self, effect: Send | Give) -> None:
        if not self._backlog:
            self._backlog_since_s = self._service.now()
            self._service.loop.watch(self._fileno, self._ready, WRITE)
        self._backlog.append(effect)
        if effect.pushed and len(self._backlog) > PUSHED_MOST:
            self._service.throw_out(self.client.id, f"does not read: {len(self._backlog)} messages wait")

    def _send(self, effect: Send | Give) -> bool:
        """True when it is done with; False when the socket is full."""
        if isinstance(effect, Give):
            error = self._service.shelf.send(self._fileno, effect.message, effect.handle, effect.places)
            if error == errno.EAGAIN:
                return False
            self._service.release(effect.handle)
            return True  # a socket that broke tells so when it is read
        try:
            self._connection.send(effect.message, _DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def _drain(self) -> None:
        while self._backlog:
            if not self._send(self._backlog[0]):
                return
            self._backlog.popleft()
            self._backlog_since_s = self._service.now()
        if self._fileno >= 0:
            self._service.loop.watch(self._fileno, self._ready, READ)

    def stalled_since(self) -> float | None:
        """Since when it has not read what waits for it."""
        return self._backlog_since_s if self._backlog else None

    def close(self) -> None:
        """Keys that it did not read are wiped."""
        self._service.loop.forget(self._fileno)
        self._connection.close()
        self._fileno = -1
        for effect in self._backlog:
            if isinstance(effect, Give):
                self._service.release(effect.handle)
        self._backlog.clear()


def _not_recorded(message: bytes) -> bytes:
    """Instead of a key whose audit record could not be written."""
    _, kind, _, satype, _, _, seq, pid = pfkey.HEADER.unpack_from(message)
    return pfkey.error(pfkey.Message(kind, satype, seq, pid), errno.EIO)
