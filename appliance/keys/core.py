"""The keys service's core: a client's message in, effects out. No I/O, no clock, no random numbers of its own.

The owner calls receive() for each message of a client and packet() for each packet from the ring, tick() when
deadline() has passed, settle() after any of these; carries out take_effects() in order and sends outgoing().
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from appliance.keys import agreement, pfkey, plan
from appliance.keys.associations import SUPPORTED_AUTH, SUPPORTED_ENCRYPT, Association
from appliance.keys.clients import Client, Outbox
from appliance.keys.effects import Announce, Effect
from appliance.keys.errors import Refused
from appliance.keys.exchange import USUAL_KEY_BYTES, Exchange
from appliance.keys.finding import Finding, Found, Search, Where
from appliance.keys.pfkey import Ext, Message, MessageType, PfkeyError, SaType
from appliance.keys.policy import Credentials, Policy, Rule, check_application
from appliance.keys.registry import Application, Registry
from appliance.keys.requests import check_request
from appliance.keys.sessions import Place, Request, Session, Sessions, Store
from appliance.keys.spi import SpiAllocator
from appliance.network.errors import LocalProtocolError
from appliance.transport.admission import Qos
from appliance.transport.endpoint import Endpoint, Outgoing

KEY_MIN_BYTES, KEY_MAX_BYTES = 16, 1024
WAITING_MOST = 1024  # requests of one connection that wait for a key


@dataclass(frozen=True, slots=True)
class Settings:
    """hold_s: how long a key waits for its fetch. Stock lives a third of it, so that what is given out can be fetched.
    stored_bytes(node): key bytes in the store of the link towards a node, None when not known. outage(node): why no key
    can get to a node and could not for a while, None when it may; then waiting is no use and the client hears why."""

    rules: Sequence[Rule]
    first_spi: int = 0xC0000000
    last_spi: int = 0xCFFFFFFF
    hold_s: float = 3600.0
    request_s: float = 10.0
    key_max_bytes: int = KEY_MAX_BYTES
    stored_bytes: Callable[[IPv4Address], int | None] = lambda node: None
    outage: Callable[[IPv4Address], str | None] = lambda node: None


class KeysCore:
    def __init__(self, endpoint: Endpoint, store: Store, random: Callable[[int], bytes], settings: Settings) -> None:
        self._endpoint, self._settings = endpoint, settings
        self._policy = Policy(settings.rules)
        self.registry = Registry()
        self.sessions = Sessions(store, random, settings.hold_s / 3, settings.hold_s)
        self._outbox = Outbox(self.sessions)
        start = int.from_bytes(random(4), "big")
        spis = SpiAllocator(settings.first_spi, settings.last_spi, start)
        self.exchange = Exchange(endpoint, self.sessions, self.registry, spis, self._outbox, random)
        self.finding = Finding(endpoint.address, self._outbox, self._connect_found)
        self.exchange.next_place = self.finding.next_place
        self._handlers = {
            MessageType.REGISTER: self._register,
            MessageType.ACQUIRE: self._acquire,
            MessageType.GETSPI: self._getspi,
            MessageType.GET: self._get,
            MessageType.DELETE: self._delete,
            MessageType.FLUSH: self._flush,
            MessageType.DUMP: self._dump,
        }

    # Clients -------------------------------------------------------------------------------------------------------

    def add_client(self, client_id: int, who: Credentials, now: float) -> Client:
        """Raises Refused when no rule is for these credentials."""
        client = Client(client_id, who, self._policy.admit(who, now))
        self._outbox.clients[client_id] = client
        return client

    def remove_client(self, client_id: int, now: float) -> None:
        """Its socket is gone: its registrations, unfetched keys and connections go. Peers keep installed SAs."""
        self._outbox.clients.pop(client_id, None)
        self.finding.forget_client(client_id)
        for application in self.registry.forget_client(client_id):
            self._endpoint.unlisten(application.port)
            if application.announced:
                self._outbox.effects.append(Announce(application, gone=True))
        self.exchange.agreement.forget_client(client_id)
        for session in [s for s in self.sessions.by_id.values() if s.application.client == client_id]:
            for key in list(session.held.values()):
                self.sessions.wipe(key)
            if not session.closed:
                self.exchange.close(session, now)
            self.sessions.forget_if_empty(session)

    @property
    def clients(self) -> dict[int, Client]:
        return self._outbox.clients

    def take_effects(self) -> list[Effect]:
        return self._outbox.take()

    def refill(self, session: Session, now: float) -> bool:
        """After the short way (plan.py) took a key from stock. True when settle() and outgoing() are due."""
        if len(session.stock) > session.refill_below or session.closed:
            return False
        if len(session.stock) + session.flying[session.key_bytes] > session.refill_below and not session.filling:
            return False
        self.exchange.top_up(session, now)
        return True

    def receive(self, client: Client, data: bytes, now: float) -> None:
        """One message of a client."""
        try:
            message = pfkey.parse(data)
        except PfkeyError as error:
            if len(data) >= pfkey.HEADER.size:
                _, kind, _, satype, _, _, seq, pid = pfkey.HEADER.unpack_from(data)
                self._outbox.fail(client.id, Message(kind, satype, seq, pid), error.errno, error.reason)
            return
        try:
            check_request(message)
            self._handlers[MessageType(message.type)](client, message, now)
            if message.type == MessageType.GETSPI and message.satype == SaType.TLS:
                self._leave_plan(client, message, data)
        except (PfkeyError, Refused) as refused:
            self._outbox.fail(client.id, message, refused.errno, refused.reason)

    def _leave_plan(self, client: Client, message: Message, data: bytes) -> None:
        session = self._session(client, message)
        if message.get(Ext.CONNECTION).key_bytes in (0, session.key_bytes):
            plan.make(client, session, self.sessions, data)

    # Requests ------------------------------------------------------------------------------------------------------

    def _register(self, client: Client, message: Message, now: float) -> None:
        asked, address = message.get(Ext.CONNECTION), message.get(Ext.ADDRESS_SRC)
        if message.satype == SaType.UNSPEC:
            raise Refused(errno.EINVAL, "an application registers for one SA type")
        client.wants_reason = client.wants_reason or Ext.REASON in message.extensions
        named = message.get(Ext.NAME)
        name = named.text if named is not None else ""
        check_application(client.quota.rule, asked.local_port, message.satype, name)
        application = Application(asked.local_port, message.satype, address.ip, client.id, name)
        if self.registry.register(application):
            self._endpoint.listen(application.port, client.quota.rule.held_keys)
            if application.announced:
                self._outbox.effects.append(Announce(application))
            text = f"application at port {application.port}" + (f", named {name}" if name else "")
            self._outbox.note("application-registered", text, uid=client.who.uid, port=application.port)
        answer = Message(MessageType.REGISTER, message.satype, message.seq, message.pid)
        answer.extensions = {Ext.CONNECTION: pfkey.Connection(0, int(self._node), asked.local_port)}
        if message.satype == SaType.ESP:
            answer.extensions[Ext.SUPPORTED_AUTH] = pfkey.Supported(0, SUPPORTED_AUTH)
            answer.extensions[Ext.SUPPORTED_ENCRYPT] = pfkey.Supported(0, SUPPORTED_ENCRYPT)
        self._outbox.answer(client.id, pfkey.build(answer))

    @property
    def _node(self) -> IPv4Address:
        return self._endpoint.address

    def _acquire(self, client: Client, message: Message, now: float) -> None:
        asked = message.get(Ext.CONNECTION)
        length = self._length(asked.key_bytes or USUAL_KEY_BYTES)
        if asked.prefetch > client.quota.rule.stock_keys:
            raise Refused(
                errno.EDQUOT, f"rule {client.quota.rule.name!r} allows {client.quota.rule.stock_keys} in stock"
            )
        if asked.priority > client.quota.rule.priority:
            right = f"priorities up to {client.quota.rule.priority}, not {asked.priority}"
            raise Refused(errno.EACCES, f"rule {client.quota.rule.name!r} allows {right}")
        if asked.id:
            session = self._session(client, message)
            self._change(session, length, asked.prefetch, now)
            answer = Message(MessageType.ACQUIRE, message.satype, message.seq, message.pid)
            answer.extensions = {Ext.CONNECTION: self.exchange.describe(session)}
            self._outbox.answer(client.id, pfkey.build(answer))
            return
        application = self.registry.of(client.id, asked.local_port)
        named = message.get(Ext.NAME)
        if named is None:
            there = Where(IPv4Address(asked.node), asked.remote_port, application.satype)
            self._connect(client, application, message, there, now)
        elif asked.node or asked.remote_port or not named.text:
            raise Refused(errno.EINVAL, "a connection is by name, or by node and port: one of them is wanted")
        else:
            self.finding.begin(client.id, message, named.text, application.satype, now)

    def _connect_found(self, search: Search, place: Where, now: float) -> None:
        client = self.clients[search.client]
        application = self.registry.of(client.id, search.message.get(Ext.CONNECTION).local_port)
        self._connect(client, application, search.message, place, now).search = search

    def found(self, number: int, found: Found | None, now: float) -> None:
        """The answer to an effect Find."""
        self.finding.found(number, found, now)

    def _connect(self, client: Client, application: Application, message: Message, place: Where, now: float) -> Session:
        asked, node = message.get(Ext.CONNECTION), place.node
        length = self._length(asked.key_bytes or USUAL_KEY_BYTES)
        self._check_path(node)
        qos = Qos(asked.rate_bps, asked.burst_bits or Qos().burst_bits, priority=asked.priority)
        client.quota.take_connection()
        try:
            connection = self._endpoint.connect(now, 0, node, place.port, qos, client.quota.rule.held_keys)
        except LocalProtocolError as error:
            client.quota.connections -= 1
            raise Refused(errno.ENETUNREACH, str(error)) from None
        session = self.exchange.new_session(connection, application, client, asked.prefetch, length)
        session.acquire = message
        return session

    def _change(self, session: Session, length: int, prefetch: int, now: float) -> None:
        """Either end may keep a stock of its own: the end that was connected to asks so."""
        if length != session.key_bytes:
            self.exchange.drop(list(session.stock), now)
        session.key_bytes, session.prefetch = length, prefetch
        self.exchange.top_up(session, now)

    def _length(self, key_bytes: int) -> int:
        if not KEY_MIN_BYTES <= key_bytes <= self._settings.key_max_bytes:
            right = f"{KEY_MIN_BYTES}..{self._settings.key_max_bytes}"
            raise Refused(errno.EMSGSIZE, f"a key has {right} bytes, not {key_bytes}")
        return key_bytes

    def _check_path(self, node: IPv4Address) -> None:
        outage = self._settings.outage(node) if node != self._node else None
        if outage is not None:
            raise Refused(errno.ENETUNREACH, outage)

    def _session(self, client: Client, message: Message) -> Session:
        number = message.get(Ext.CONNECTION).id
        session = self.sessions.by_id.get(number)
        if session is None or session.closed:
            raise Refused(errno.ENOTCONN, f"there is no connection {number}")
        if session.application.client != client.id:
            raise Refused(errno.EACCES, f"connection {number} is another client's")
        return session

    def _getspi(self, client: Client, message: Message, now: float) -> None:
        session = self._session(client, message)
        if message.satype != session.application.satype:
            raise Refused(errno.EINVAL, f"the application is registered for SA type {session.application.satype}")
        if session.peer is None:
            raise Refused(errno.ENOTCONN, f"connection {session.id} does not stand yet")
        asked = message.get(Ext.CONNECTION).key_bytes
        if message.satype == SaType.ESP:
            asked = agreement.check(message, session.application.address, session.peer.address, asked)
        length = self._length(asked or session.key_bytes)
        if not session.stock:
            self._check_path(session.connection.remote)
        stored = self._settings.stored_bytes(session.connection.remote)
        if stored is not None and stored < length:
            raise Refused(errno.ENOSPC, f"the link's key store has {stored} bytes, the key needs {length}")
        if len(session.waiting) >= WAITING_MOST:
            raise Refused(errno.EAGAIN, f"{WAITING_MOST} requests wait on connection {session.id} already")
        if not client.quota.take_key(now):
            raise Refused(errno.EDQUOT, f"rule {client.quota.rule.name!r} allows {client.quota.rule.keys_per_s} keys/s")
        request = Request(message, length, now + self._settings.request_s)
        key = None if session.waiting else self.sessions.take_from_stock(session, length, now)
        if key is not None:
            self.exchange.serve(session, request, key, now)
        else:
            session.waiting.append(request)
        self.exchange.top_up(session, now)

    def _get(self, client: Client, message: Message, now: float) -> None:
        named = message.get(Ext.KEY_ID)
        if named is None and message.get(Ext.SA) is None:
            raise Refused(errno.EINVAL, "GET needs the extension KEY_ID or SA")
        key = self.sessions.keys.get(named.key_id) if named else None
        if key is not None and key.place is Place.HELD and key.session.application.client != client.id:
            raise Refused(errno.EACCES, "that key is for another client's application")
        if key is not None and key.place is Place.HELD and key.session.application.satype == SaType.TLS:
            session = key.session
            data, places = plan.tls_answer(MessageType.GET, key.key_id, key.length, message.seq, message.pid)
            self._outbox.give(key, data, places)
            self.exchange.set_window(session, now)
            self.sessions.forget_if_empty(session)
            return
        sa = self._association(client, message)
        self._outbox.answer(client.id, pfkey.build(sa.message(MessageType.GET, message.seq, message.pid)))

    def _association(self, client: Client, message: Message) -> Association:
        """By key ID or SPI; its key was handed over when it was installed."""
        named, destination = message.get(Ext.KEY_ID), message.get(Ext.ADDRESS_DST)
        if named is None:
            ip = destination.ip if destination else None
            return self.exchange.agreement.table.find(client.id, message.get(Ext.SA).spi, ip)
        sa = self.exchange.agreement.table.by_key_id.get(named.key_id)
        if sa is None or sa.client != client.id:
            raise Refused(errno.ESRCH, "no such key is here, or it was given out already")
        return sa

    def _delete(self, client: Client, message: Message, now: float) -> None:
        named = message.get(Ext.KEY_ID)
        if message.get(Ext.CONNECTION) is not None:
            self.exchange.close(self._session(client, message), now)
        elif (
            named is not None and (key := self.sessions.keys.get(named.key_id)) is not None and key.place is Place.HELD
        ):
            if key.session.application.client != client.id:
                raise Refused(errno.EACCES, "that key is for another client's application")
            self.exchange.drop([key], now)
        elif named is not None or message.get(Ext.SA) is not None:
            self._delete_association(self._association(client, message), now)
        else:
            raise Refused(errno.EINVAL, "DELETE needs the extension KEY_ID, SA or CONNECTION")
        answer = Message(MessageType.DELETE, message.satype, message.seq, message.pid)
        answer.extensions = {n: value for n, value in message.extensions.items() if n != Ext.ADDRESS_DST}
        self._outbox.answer(client.id, pfkey.build(answer))

    def _delete_association(self, sa: Association, now: float) -> None:
        """At both ends; a peer that cannot be told any more deletes its own when it expires."""
        session = self.sessions.by_id.get(sa.session)
        request = session.pending.get(sa.key_id) if session else None
        if session is not None and request is not None:
            raise Refused(errno.EBUSY, "the far end has not installed it yet")
        self.exchange.agreement.remove(sa.key_id)
        if session is not None:
            self.exchange.tell_deleted(session, [sa.key_id], now)

    def _flush(self, client: Client, message: Message, now: float) -> None:
        table = self.exchange.agreement.table.by_key_id
        for sa in [sa for sa in table.values() if sa.client == client.id and message.satype in (0, SaType.ESP)]:
            if sa.spi:
                self._delete_association(sa, now)
        self._outbox.answer(client.id, pfkey.build(Message(message.type, message.satype, message.seq, message.pid)))

    def _dump(self, client: Client, message: Message, now: float) -> None:
        """One message for each SA; sequence numbers count down to 0 (RFC 2367, 3.1.10). ENOENT when there is none."""
        table = self.exchange.agreement.table.by_key_id.values()
        mine = [sa for sa in table if sa.client == client.id and sa.spi and message.satype in (0, SaType.ESP)]
        if not mine:
            raise Refused(errno.ENOENT, "there is no SA")
        for left, sa in zip(range(len(mine) - 1, -1, -1), mine, strict=True):
            self._outbox.answer(client.id, pfkey.build(sa.message(MessageType.DUMP, left, message.pid)))

    # Transport and time --------------------------------------------------------------------------------------------

    def packet(self, clear: bytes, handles: list[int], now: float) -> None:
        """A QKDNL packet from the ring: its clear part, and the slots that its keys were put in."""
        self.exchange.receive(clear, handles, now)

    def settle(self, now: float) -> None:
        """Deals with what the transport has to tell, until it has no more."""
        while self.exchange.handle_events(now):
            pass

    def outgoing(self) -> list[Outgoing]:
        """Take the packets to send now, after settle()."""
        return [*self._endpoint.outgoing(), *map(Outgoing, self.exchange.courier.outgoing())]

    def way_changed(self, now: float) -> None:
        """Links or routes of this node changed."""
        self._endpoint.way_changed(now)

    def tick(self, now: float) -> None:
        self._endpoint.tick(now)
        self.exchange.tick(now)
        self.finding.tick(now)
        for session in list(self.sessions.by_id.values()):
            if session.waiting or session.acquire is not None:
                outage = self._settings.outage(session.connection.remote)
                if outage is not None:
                    self.exchange.give_up_waiting(session, errno.ENETUNREACH, outage, now)

    def deadline(self) -> float | None:
        times = (self._endpoint.deadline(), self.exchange.deadline(), self.finding.deadline())
        return min((time for time in times if time is not None), default=None)
