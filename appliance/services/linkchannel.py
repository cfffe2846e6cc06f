"""The classical channel of a link: opens the socket, hands it to the data plane, opens another when it is lost.

UDP: one socket, bound and connected. TCP: the node with the higher address listens, the other connects, again and again
until it holds.

Either end may be given by name. It is resolved for the family of ``listen``, before each try and, as long as nothing is
heard of the neighbour, again and again: it may have moved. A listener asks anew when a stranger connects.
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
from appliance.services.hostnames import Found, Lookup, NotResolved, Question
from appliance.services.linkwatch import Strangers
from appliance.services.runtime import Loop, Timer

RETRY_S = 1.0
PATIENCE_S = 5.0  # name servers that are silent for so long are the link's cause, though an answer may come yet


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
        lookup: Lookup = hostnames.lookup,
    ) -> None:
        self._loop, self._plane, self._index, self._config, self._failed = loop, plane, index, config, failed
        self._master = master
        self._listener: socket.socket | None = None
        self._connecting: socket.socket | None = None
        self._timer: Timer | None = None
        self.strangers = Strangers(config)
        self._lookup = lookup
        self._names = [host for host in (config.listen.host, config.remote.host) if not hostnames.numeric(host)]
        self._may_move = config.remote.host in self._names
        self._found: Found = {}
        self._question: Question | None = None
        self._asked_s = loop.now()
        self._patience: Timer | None = None
        self._name_failed = False  # and that was told
        self._toward: str | None = None  # the neighbour's address that is used, or tried
        self._silent = False

    def open(self) -> None:
        """Try now, and later again where it fails: the network may not be there yet."""
        if self._names:
            self._resolve()
        else:
            self._open()

    def _open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
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

    # --- names -------------------------------------------------------------------------------------------------------

    def look(self, silent: bool) -> None:
        """To be called now and then: a neighbour of which nothing is heard may have another address by now."""
        self._silent = silent
        if silent and self._may_move and self._toward is not None:
            self._resolve()

    def _resolve(self) -> None:
        """One question at a time, so that silent name servers do not make ever more threads."""
        if self._question is not None:
            return
        try:
            self._question = Question(
                self._loop, self._names, family(self._config.listen), self._lookup, self._resolved
            )
        except OSError as error:
            self._resolved(NotResolved(f"names cannot be asked for: {error.strerror}"))
            return
        self._asked_s = self._loop.now()
        self._patience = self._loop.after(PATIENCE_S, self._no_answer)

    def _no_answer(self) -> None:
        """Told once: an answer may come yet, and a failure tells more."""
        if not self._name_failed and not self._has_channel:
            self._name_failed = True
            names = " or ".join(self._names)
            self._failed(f"name {names} is not resolved: no answer within {PATIENCE_S:.0f} s")

    def _resolved(self, answer: Found | NotResolved) -> None:
        self._question = None
        if self._patience is not None:
            self._patience.cancel()
        if isinstance(answer, NotResolved):
            if not self._has_channel:  # else it is still good, for all that is known
                self._name_failed = True
                self._retry(str(answer))
            return
        self._name_failed = False
        self._found = answer
        if not self._has_channel:
            self._open()
        elif self._silent and self._toward is not None and self._toward not in self._addresses(self._config.remote):
            self._move(self._toward)

    @property
    def _has_channel(self) -> bool:
        """Or one in the making."""
        return self._toward is not None or self._listener is not None

    def _addresses(self, of: SocketAddress) -> tuple[str, ...]:
        return self._found.get(of.host, (of.host,))

    def _at(self, of: SocketAddress) -> tuple[str, int]:
        return self._addresses(of)[0], of.port

    def _move(self, old: str) -> None:
        """The old socket goes first, since the new one wants its address; no harm, as nothing comes through it."""
        self._plane.set_channel(self._index, ChannelKind.NONE, -1)
        remote = self._config.remote
        self._retry(f"{remote.host} is at {self._addresses(remote)[0]} now and no longer at {old}")

    # --- sockets -----------------------------------------------------------------------------------------------------

    def lost(self) -> None:
        """The data plane's TCP connection ended."""
        self._failed("the TCP channel ended")
        if self._config.channel == "tcp" and self._master:
            self._retry("the TCP channel ended")

    def _retry(self, why: str) -> None:
        self._toward = None
        self._stop_connecting()
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
            channel.bind(self._at(self._config.listen))
            channel.connect(self._at(self._config.remote))
        except OSError:
            channel.close()
            raise
        self._hand_over(ChannelKind.UDP, channel)
        self._toward = self._at(self._config.remote)[0]

    def _listen_tcp(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket(family(self._config.listen), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(self._at(self._config.listen))
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
                self._refuse(address[0])
                return
            tune(channel)
            self._hand_over(ChannelKind.TCP, channel)

    def _is_neighbour(self, address: str) -> bool:
        known = {hostnames.plain(known) for known in self._addresses(self._config.remote)}
        return hostnames.plain(address) in known

    def _refuse(self, address: str) -> None:
        """It may be the neighbour at a new address: that is known when it tries again."""
        now = self._loop.now()
        self.strangers.refuse(now, address)
        if self._may_move and now - self._asked_s >= RETRY_S:
            self._resolve()

    def _connect_tcp(self) -> None:
        channel = socket.socket(family(self._config.listen), socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        channel.setblocking(False)
        try:
            channel.bind((self._at(self._config.listen)[0], 0))
            code = channel.connect_ex(self._at(self._config.remote))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
        except OSError:
            channel.close()
            raise
        self._connecting = channel
        self._toward = self._at(self._config.remote)[0]
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

    def _stop_connecting(self) -> None:
        channel, self._connecting = self._connecting, None
        if channel is not None:
            self._loop.forget(channel.fileno())
            channel.close()

    def close(self) -> None:
        for timer in (self._timer, self._patience):
            if timer is not None:
                timer.cancel()
        if self._question is not None:
            self._question.forget()
        self._stop_connecting()
        if self._listener is not None:
            self._loop.forget(self._listener.fileno())
            self._listener.close()


def tune(channel: socket.socket) -> None:
    channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def family(address: SocketAddress) -> socket.AddressFamily:
    """Of a link's sockets, by its listen; a name there is one of IPv4."""
    return socket.AF_INET6 if ":" in str(address.host) else socket.AF_INET
