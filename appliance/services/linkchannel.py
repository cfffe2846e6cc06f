"""The classical channel of a link: opens the socket, hands it to the data plane, opens another when it is lost.

UDP: one socket, bound and connected. TCP: the node with the higher address listens, the other connects, again and again
until it holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable

from appliance.config import LinkConfig, SocketAddress
from appliance.native.dataplane import ChannelKind, DataPlane
from appliance.services import hostnames
from appliance.services.linkwatch import Strangers
from appliance.services.runtime import Loop, Timer

RETRY_S = 1.0


class LinkChannel:
    """``failed`` hears why there is no channel, and None when there is one."""

    def __init__(
        self,
        loop: Loop,
        plane: DataPlane,
        index: int,
        config: LinkConfig,
        master: bool,
        failed: Callable[[str | None], None],
    ) -> None:
        self._loop, self._plane, self._index, self._config, self._failed = loop, plane, index, config, failed
        self._master = master
        self._listener: socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._timer: Timer | None = None
        self.strangers = Strangers(config)

    def open(self) -> None:
        """Try now, and later again where it fails: the network may not be there yet."""
        try:
            if self._config.channel == "udp":
                self._open_udp()
            elif self._master:
                self._connect_tcp()
            else:
                self._listen_tcp()
        except OSError as error:
            self._retry(
                f"{self._config.channel} channel {self._config.listen} to {self._config.remote}: {error.strerror}"
            )

    def lost(self) -> None:
        """The data plane's TCP connection ended."""
        self._failed("the TCP channel ended")
        if self._config.channel == "tcp" and self._master:
            self._retry("the TCP channel ended")

    def _retry(self, why: str) -> None:
        self._failed(why)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(RETRY_S, self.open)

    def _hand_over(self, kind: ChannelKind, channel: socket.socket) -> None:
        channel.setblocking(False)
        self._plane.set_channel(self._index, kind, channel.detach())
        self._failed(None)

    def _open_udp(self) -> None:
        channel = socket.socket(family(self._config.listen), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                channel.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
            channel.bind(pair(self._config.listen))
            channel.connect(pair(self._config.remote))
        except OSError:
            channel.close()
            raise
        self._hand_over(ChannelKind.UDP, channel)

    def _listen_tcp(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket(family(self._config.listen), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(pair(self._config.listen))
            listener.listen(4)
        except OSError:
            listener.close()
            raise
        self._listener = listener
        self._loop.watch(listener.fileno(), self._accept)

    def _accept(self, events: int) -> None:
        assert self._listener is not None
        with contextlib.suppress(OSError):
            channel, address = self._listener.accept()
            if not self._is_neighbour(address[0]):
                channel.close()  # packets are authenticated anyway; this keeps strangers from taking the channel
                self.strangers.refuse(self._loop.now(), address[0])
                return
            tune(channel)
            self._hand_over(ChannelKind.TCP, channel)

    def _is_neighbour(self, address: str) -> bool:
        remote = self._config.remote.host
        return hostnames.numeric(remote) and hostnames.plain(address) == hostnames.plain(remote)

    def _connect_tcp(self) -> None:
        channel = socket.socket(family(self._config.listen), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        channel.setblocking(False)
        try:
            channel.bind((pair(self._config.listen)[0], 0))
            code = channel.connect_ex(pair(self._config.remote))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError:
            channel.close()
            raise
        self._connecting = channel
        self._loop.watch(channel.fileno(), self._connected, 2)

    def _connected(self, events: int) -> None:
        channel, self._connecting = self._connecting, None
        assert channel is not None
        self._loop.forget(channel.fileno())
        code = channel.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            channel.close()
            self._retry(f"tcp channel to {self._config.remote}: {os.strerror(code)}")
            return
        tune(channel)
        self._hand_over(ChannelKind.TCP, channel)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for held in (self._listener, self._connecting):
            if held is not None:
                self._loop.forget(held.fileno())
                held.close()


def tune(channel: socket.socket) -> None:
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def pair(address: SocketAddress) -> tuple[str, int]:
    return str(address.host), address.port


def family(address: SocketAddress) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in str(address.host) else socket.AF_INET
