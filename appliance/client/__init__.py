"""For applications: session keys from this site's QBB node, over its pfkey.sock.

    with Client() as client:                              # the server's site
        client.register(443, "192.0.2.7", name="web")

    with Client() as client:                              # the client's site
        connection = client.connect(name="web", prefetch=16)    # or client.connect("1.1.1.2", 443, ...)
        with connection.key() as key:                     # the far application: with client.fetch(key_id) as key
            use(key.id, key.secret)

    key.id      UUID: the key's name at both ends; a TLS application's PSK identity
    key.secret  bytearray, wiped when the `with` block ends (or by key.wipe())

The key is handed over only after the far node confirmed that it holds it; the far application fetches it by its ID,
exactly once. For IPsec, register with kind="esp" and ask `connection.association(...)`: it returns the SADB_ADD
message; what the far end asked for comes as Add from `client.event()`. A blocking client, for one thread.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Self
from uuid import UUID

from appliance.keys import pfkey
from appliance.keys.pfkey import Ext, Message, MessageType, SaType
from appliance.keys.registry import FIRST_EPHEMERAL_PORT
from appliance.network.errors import LocalProtocolError
from appliance.routing.registrations import check_name

DEFAULT_SOCKET = Path("/run/qbb/pfkey.sock")
KINDS = {"tls": SaType.TLS, "esp": SaType.ESP}
EPHEMERAL_PORTS = range(FIRST_EPHEMERAL_PORT, 65536)
NO_ADDRESS = "127.0.0.1"  # of an application that only asks
PublicAddress = IPv4Address | IPv6Address


class KeyServiceError(OSError):
    """The keys service refused: `errno` says which kind, `strerror` why."""


class KeyServiceGone(KeyServiceError, ConnectionError):
    """The keys service ended the connection: restarted, or it threw this client out."""


class KeyTimeout(KeyServiceError, TimeoutError):
    """No answer in time. The request is given up; an answer that comes late is wiped."""


class SessionKey:
    """A key and its name. The secret is wiped at the end of a `with` block."""

    __slots__ = ("id", "secret")

    def __init__(self, key_id: UUID, secret: bytearray) -> None:
        self.id = key_id
        self.secret = secret

    def wipe(self) -> None:
        self.secret[:] = bytes(len(self.secret))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return f"SessionKey({self.id}, {len(self.secret)} bytes)"


class Add(SessionKey):
    """An SA to install: `message` is SADB_ADD as a kernel's PF_KEY socket takes it (wiped with the secret); `sa` the
    same, parsed. `secret`: the cipher's key (with salt), then the HMAC's."""

    __slots__ = ("message", "sa")

    def __init__(self, key_id: UUID, secret: bytearray, message: bytearray, sa: Message) -> None:
        super().__init__(key_id, secret)
        self.message = message
        self.sa = sa

    @property
    def spi(self) -> int:
        return int(self.sa.get(Ext.SA).spi)

    def wipe(self) -> None:
        super().wipe()
        self.message[:] = bytes(len(self.message))


@dataclass(frozen=True, slots=True)
class Told:
    """Something that the service tells of its own accord: connected (ACQUIRE), deleted (DELETE), expired (EXPIRE)."""

    what: str
    message: Message


class Connection:
    """A QKDTL connection to the far application. Either end may ask for keys."""

    def __init__(self, client: Client, satype: int, told: pfkey.Connection) -> None:
        self._client, self._satype = client, satype
        self.id = told.id
        self.key_bytes = told.key_bytes
        self.node = IPv4Address(told.node)
        self.remote_port = told.remote_port

    def key(self, length_bytes: int = 0, timeout_s: float | None = None) -> SessionKey:
        """A key of its own for one use; 0 asks for the connection's usual length, which comes from stock."""
        request = Message(MessageType.GETSPI, self._satype)
        request.extensions = {Ext.CONNECTION: pfkey.Connection(self.id, 0, key_bytes=length_bytes)}
        message = self._client.ask(request, timeout_s)
        return _with_key(message)

    def association(
        self,
        source: str | PublicAddress,
        destination: str | PublicAddress,
        *,
        encrypt: int = 20,
        auth: int = 0,
        length_bytes: int = 0,
        hard: pfkey.Lifetime | None = None,
        soft: pfkey.Lifetime | None = None,
        spis: tuple[int, int] | None = None,
        tunnel: bool = True,
        timeout_s: float | None = None,
    ) -> Add:
        """One SA from source to destination, which are the public addresses of the two applications."""
        request = Message(MessageType.GETSPI, self._satype)
        request.extensions = {
            Ext.CONNECTION: pfkey.Connection(self.id, 0, key_bytes=length_bytes),
            Ext.SA: pfkey.Sa(0, auth=auth, encrypt=encrypt),
            Ext.SA2: pfkey.Sa2(2 if tunnel else 1),
            Ext.ADDRESS_SRC: _address(source),
            Ext.ADDRESS_DST: _address(destination),
        }
        if spis is not None:
            request.extensions[Ext.SPIRANGE] = pfkey.SpiRange(*spis)
        if hard is not None:
            request.extensions[Ext.LIFETIME_HARD] = hard
        if soft is not None:
            request.extensions[Ext.LIFETIME_SOFT] = soft
        key = _with_key(self._client.ask(request, timeout_s))
        assert isinstance(key, Add)
        return key

    def prefetch(self, count: int, key_bytes: int = 0) -> None:
        """Keep so many keys ready at this end; the end that was connected to has none until it says so."""
        request = Message(MessageType.ACQUIRE, self._satype)
        wanted = pfkey.Connection(self.id, 0, key_bytes=key_bytes or self.key_bytes, prefetch=count)
        request.extensions = {Ext.CONNECTION: wanted}
        self.key_bytes = pfkey.parse(self._client.ask(request)).get(Ext.CONNECTION).key_bytes

    def close(self) -> None:
        """In order: unused keys go at both ends; what was given out may still be fetched."""
        request = Message(MessageType.DELETE, self._satype)
        request.extensions = {Ext.CONNECTION: pfkey.Connection(self.id, 0)}
        self._client.ask(request)


class Client:
    """One connection to the keys service. All errors are KeyServiceError, or OSError while connecting."""

    def __init__(self, path: str | Path = DEFAULT_SOCKET, timeout_s: float = 15.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._timeout_s = timeout_s
        self._seq = 0
        self._pid = os.getpid()
        self._satypes: dict[int, int] = {}
        self._told: deque[bytearray] = deque()
        self._buffer = bytearray(pfkey.MESSAGE_MAX_BYTES)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()
        for waiting in self._told:
            waiting[:] = bytes(len(waiting))
        self._told.clear()

    def fileno(self) -> int:
        return self._socket.fileno()

    def register(
        self, port: int, address: str | PublicAddress, kind: str = "tls", name: str | None = None
    ) -> IPv4Address:
        """This program serves the application at `port`, reached over the public network at `address`. With a name,
        applications at other nodes may connect to it by that. Returns the node's address."""
        request = Message(MessageType.REGISTER, KINDS[kind])
        request.extensions = {
            Ext.CONNECTION: pfkey.Connection(0, 0, local_port=port),
            Ext.ADDRESS_SRC: _address(address),
            Ext.REASON: pfkey.Reason(0, ""),
        }
        if name:
            request.extensions[Ext.NAME] = _name(name)
        answer = pfkey.parse(self.ask(request))
        self._satypes[port] = KINDS[kind]
        return IPv4Address(answer.get(Ext.CONNECTION).node)

    def connect(
        self,
        node: str | IPv4Address | None = None,
        port: int = 0,
        *,
        name: str | None = None,
        local_port: int = 0,
        key_bytes: int = 32,
        prefetch: int = 0,
        rate_bps: int = 0,
        burst_bits: int = 0,
        priority: int = 0,
        timeout_s: float | None = None,
    ) -> Connection:
        """A connection to the application at `port` of a node, or to the nearest one of that name; `prefetch` keys of
        key_bytes are kept ready; keys of a higher priority (0 to 5, as the client's rule allows) overtake others in the
        queues on the way. It is made as this program's application at local_port; 0: as the only one that it
        registered, or as a TLS application that only asks, when it registered none."""
        if (name is None) == (node is None) or (node is None) != (port == 0):
            raise ValueError("a connection is by name, or by node and port: one of them is wanted")
        local_port = local_port or self._own_port()
        satype = self._satypes.get(local_port, SaType.TLS)
        request = Message(MessageType.ACQUIRE, satype)
        there = int(IPv4Address(node)) if node is not None else 0
        wanted = pfkey.Connection(0, there, local_port, port, key_bytes, prefetch, rate_bps, burst_bits, priority)
        request.extensions = {Ext.CONNECTION: wanted}
        if name is not None:
            request.extensions[Ext.NAME] = _name(name)
        answer = pfkey.parse(self.ask(request, timeout_s))
        return Connection(self, satype, answer.get(Ext.CONNECTION))

    def accepted(self, told: Told) -> Connection:
        """The connection of a "connected" event, to ask for keys at the end that was connected to."""
        return Connection(self, told.message.satype, told.message.get(Ext.CONNECTION))

    def fetch(self, key_id: UUID, timeout_s: float | None = None) -> SessionKey:
        """The key that the far application got under this ID; once."""
        request = Message(MessageType.GET, SaType.TLS)
        request.extensions = {Ext.KEY_ID: pfkey.KeyId(0, key_id.bytes)}
        return _with_key(self.ask(request, timeout_s))

    def _own_port(self) -> int:
        """Of the only application; of one that is registered now when there is none."""
        if len(self._satypes) > 1:
            raise ValueError(f"ports {', '.join(map(str, sorted(self._satypes)))} are registered: which local_port?")
        if not self._satypes:
            self.register(EPHEMERAL_PORTS[int.from_bytes(os.urandom(4), "big") % len(EPHEMERAL_PORTS)], NO_ADDRESS)
        return next(iter(self._satypes))

    def event(self, timeout_s: float | None = None) -> Told | Add:
        """The next thing that the service tells of its own accord. Raises KeyTimeout."""
        message = self._told.popleft() if self._told else self._receive(time.monotonic() + self._limit(timeout_s))
        parsed = pfkey.parse(message)
        if parsed.type == MessageType.ADD:
            key = _with_key(message)
            assert isinstance(key, Add)
            return key
        names = {MessageType.ACQUIRE: "connected", MessageType.DELETE: "deleted", MessageType.EXPIRE: "expired"}
        return Told(names.get(MessageType(parsed.type), "other"), parsed)

    def dump(self) -> list[Message]:
        """This client's SAs, without their keys."""
        request = Message(MessageType.DUMP, SaType.UNSPEC)
        try:
            found = [pfkey.parse(self.ask(request, any_seq=True))]
        except KeyServiceError as error:
            if error.errno == errno.ENOENT:
                return []
            raise
        while found[-1].seq:
            found.append(pfkey.parse(self._receive(time.monotonic() + self._timeout_s)))
        return found

    def ask(self, request: Message, timeout_s: float | None = None, any_seq: bool = False) -> bytearray:
        """Sends the request and returns its answer. Raises KeyServiceError."""
        self._seq = self._seq % 0xFFFFFFFF + 1
        request.seq, request.pid = self._seq, self._pid
        deadline = time.monotonic() + self._limit(timeout_s)
        try:
            self._socket.send(pfkey.build(request))
        except OSError as error:
            raise KeyServiceGone(error.errno, "the keys service ended the connection") from None
        while True:
            message = self._receive(deadline)
            _, kind, number, _, _, _, seq, _ = pfkey.HEADER.unpack_from(message)
            if seq == self._seq or (any_seq and kind == request.type):
                if number:
                    raise KeyServiceError(number, _reason(message, number))
                return message
            if seq == 0:
                self._told.append(message)
            else:
                message[:] = bytes(len(message))  # the late answer to a request that was given up

    def _limit(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _receive(self, deadline: float) -> bytearray:
        """One message, in memory of its own; the buffer is wiped."""
        self._socket.settimeout(max(1e-3, deadline - time.monotonic()))
        try:
            length = self._socket.recv_into(self._buffer)
        except TimeoutError:
            raise KeyTimeout(errno.ETIMEDOUT, "no answer from the keys service in time") from None
        except OSError as error:
            raise KeyServiceGone(error.errno, "the keys service ended the connection") from None
        if length == 0:
            raise KeyServiceGone(errno.ECONNRESET, "the keys service ended the connection")
        message = self._buffer[:length]
        self._buffer[:length] = bytes(length)
        return message


def _reason(message: bytearray, number: int) -> str:
    reason = pfkey.parse(message).get(Ext.REASON)
    return reason.text if reason is not None and reason.text else os.strerror(number)


def _name(text: str) -> pfkey.Name:
    try:
        check_name(text)
    except LocalProtocolError as error:
        raise KeyServiceError(errno.EINVAL, str(error)) from None
    return pfkey.Name(0, text)


def _address(text: str | PublicAddress) -> pfkey.Address:
    ip = ip_address(text) if isinstance(text, str) else text
    return pfkey.Address(0, ip.max_prefixlen, 0, ip)


def _with_key(message: bytearray) -> SessionKey:
    """Takes the key out of an answer and wipes the rest, but for SADB_ADD, which is kept whole."""
    parsed = pfkey.parse(message)
    found = [key for key in (parsed.get(Ext.KEY_ENCRYPT), parsed.get(Ext.KEY_AUTH)) if key is not None]
    if not found:
        raise KeyServiceError(errno.ENOKEY, "the key of that SA was handed over with SADB_ADD, which comes once")
    secret = bytearray(
        sum(key.bits // 8 for key in found)
    )  # at its full size at once: growing would leave copies behind
    at = 0
    with memoryview(message) as view:
        for key in found:
            secret[at : at + key.bits // 8] = view[key.at : key.at + key.bits // 8]
            at += key.bits // 8
    key_id = UUID(bytes=parsed.get(Ext.KEY_ID).key_id)
    if parsed.type == MessageType.ADD:
        return Add(key_id, secret, message, parsed)
    message[:] = bytes(len(message))
    return SessionKey(key_id, secret)


__all__ = [
    "Add",
    "Client",
    "Connection",
    "KeyServiceError",
    "KeyServiceGone",
    "KeyTimeout",
    "SessionKey",
    "Told",
]
