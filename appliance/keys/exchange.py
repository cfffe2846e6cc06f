"""The QKDTL side of the keys service: connections, and the keys that travel in them.

A request is served from stock, or waits for a key of its length that is drawn, sent and confirmed. What a key is then
used for is agreed with the peer for SAs (agreement.py); a TLS key needs no word, its application fetches it by its ID.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from uuid import UUID

from appliance.keys import peer, pfkey, plan
from appliance.keys.agreement import Agreement
from appliance.keys.clients import Client, Outbox
from appliance.keys.courier import Courier, is_message
from appliance.keys.errors import Refused
from appliance.keys.finding import Search
from appliance.keys.peer import Delete, Hello
from appliance.keys.pfkey import Ext, Message, MessageType, SaType
from appliance.keys.registry import Application, Registry
from appliance.keys.sessions import Key, Place, Request, Session, Sessions
from appliance.keys.spi import SpiAllocator
from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.transport import events as transport
from appliance.transport.connection import Connection
from appliance.transport.endpoint import Endpoint

RETRY_DRAW_S = 0.1
USUAL_KEY_BYTES = 32
WARNING_S = 10.0  # for so long an ICMP error is worth telling
_WHY = {
    transport.CloseReason.REFUSED: errno.ECONNREFUSED,
    transport.CloseReason.TIMEOUT: errno.ETIMEDOUT,
    transport.CloseReason.UNREACHABLE: errno.ENETUNREACH,
}


class Exchange:
    def __init__(
        self,
        endpoint: Endpoint,
        sessions: Sessions,
        registry: Registry,
        spis: SpiAllocator,
        outbox: Outbox,
        random: Callable[[int], bytes],
    ) -> None:
        self._endpoint = endpoint
        self._sessions, self._registry, self._outbox = sessions, registry, outbox
        self.agreement = Agreement(sessions, spis, outbox, self._tell, self.fail)
        self.courier = Courier(endpoint.address, random, self._message)
        self.counters: dict[str, int] = {}
        self.next_place: Callable[[Search, Refused | None, float], None]  # finding.py, set by the core
        self.now_s = 0.0

    def count(self, reason: str) -> None:
        self.counters[reason] = self.counters.get(reason, 0) + 1

    # Keys ----------------------------------------------------------------------------------------------------------

    def top_up(self, session: Session, now: float) -> None:
        """Draws what waiting requests and the stock lack, as far as source, shelf, quota and window allow."""
        if not session.ready or now < session.refill_at_s or not session.connection.writable:
            return
        for length, count in self._sessions.lacking(session).items():
            try:
                rows = self._sessions.draw(session, length, min(count, session.connection.room), now)
            except OSError as error:
                session.refill_at_s = now + RETRY_DRAW_S
                self.count(f"draw-{errno.errorcode.get(error.errno or 0, 'failed').lower()}")
                self._fail_waiting(session, length, error.errno or errno.EIO)
                return
            if rows:
                session.connection.send_keys(now, rows)

    def _fail_waiting(self, session: Session, length: int, number: int) -> None:
        """No key of that length can be had now: an answer is better than a wait."""
        for request in [request for request in session.waiting if request.length == length]:
            session.waiting.remove(request)
            self.fail(session, request, number, f"no key of {length} bytes can be drawn: {os.strerror(number)}")

    def fail(self, session: Session, request: Request, number: int, reason: str) -> None:
        session.quota.give_back()
        self._outbox.fail(session.application.client, request.message, number, reason)

    def serve(self, session: Session, request: Request, key: Key, now: float) -> None:
        """A confirmed key for a request."""
        message = request.message
        if session.application.satype == SaType.TLS:
            data, places = plan.tls_answer(MessageType.GETSPI, key.key_id, key.length, message.seq, message.pid)
            self._outbox.give(key, data, places)
            return
        self.agreement.propose(session, request, key, now)

    def drop(self, keys: Iterable[Key], now: float) -> None:
        """Wipes keys that nobody got, and tells their peers."""
        by_session: dict[Session, list[bytes]] = {}
        for key in list(keys):
            by_session.setdefault(key.session, []).append(key.key_id)
            self._sessions.wipe(key)
        for session, key_ids in by_session.items():
            self.tell_deleted(session, key_ids, now)

    def tell_deleted(self, session: Session, key_ids: list[bytes], now: float) -> None:
        for at in range(0, len(key_ids), peer.DELETE_MAX):
            self._tell(session, Delete(tuple(key_ids[at : at + peer.DELETE_MAX])), now)

    def _tell(self, session: Session, message: peer.PeerMessage, now: float) -> None:
        if session.closed:
            return
        try:
            connection = session.connection
            self.courier.send(
                now, connection.local_port, connection.remote, connection.remote_port, peer.encode(message)
            )
        except LocalProtocolError:
            # What the peer does not hear of stays unused there until it expires.
            self.count("message-not-sent")

    def receive(self, clear: bytes, handles: list[int], now: float) -> None:
        """One packet for this node, from the ring."""
        self.now_s = now
        if not is_message(clear):
            self._endpoint.receive(now, clear, handles)
            return
        try:
            self.courier.receive(now, clear)
        except RemoteProtocolError as error:
            self.count(error.reason)

    # What the transport tells --------------------------------------------------------------------------------------

    def handle_events(self, now: float) -> bool:
        """True when there was something."""
        happened = self._endpoint.events()
        for event in happened:
            match event:
                case transport.KeysConfirmed():
                    self._confirmed(event, now)
                case transport.KeysArrived():
                    self._arrived(event, now)
                case transport.Opened():
                    session = self._sessions.by_connection.get(event.connection)
                    if session is not None:
                        self._greet(session, now)
                case transport.Accepted():
                    self._accepted(event.connection, now)
                case transport.KeysLost():
                    self._lost(event.key_ids, now)
                case transport.Closed():
                    self._closed(event, now)
                case transport.Discard():
                    for handle in event.handles:
                        self._sessions.store.release(handle)
        return bool(happened)

    def _greet(self, session: Session, now: float) -> None:
        application = session.application
        hello = Hello(application.satype, application.port, int(self._sessions.hold_s), application.address)
        self._tell(session, hello, now)

    def set_window(self, session: Session, now: float) -> None:
        room = self._sessions.window(session)
        if room is not None and not session.closed:
            session.connection.set_window(now, room)

    def _accepted(self, connection: Connection, now: float) -> None:
        application = self._registry.at(connection.local_port)
        client = self._outbox.clients.get(application.client) if application else None
        if application is None or client is None:
            connection.abort(now)
            return
        try:
            client.quota.take_connection()
        except Refused:
            self.count("connection-quota")
            connection.abort(now)
            return
        self._greet(self.new_session(connection, application, client), now)

    def new_session(
        self,
        connection: Connection,
        application: Application,
        client: Client,
        prefetch: int = 0,
        key_bytes: int = USUAL_KEY_BYTES,
    ) -> Session:
        held_most = client.quota.rule.held_keys
        session = Session(
            self._sessions.new_id(), connection, application, client.quota, key_bytes, prefetch, held_most
        )
        session.window_left = held_most  # as offered in listen() and connect()
        self._sessions.add(session)
        return session

    def _confirmed(self, event: transport.KeysConfirmed, now: float) -> None:
        session = self._sessions.by_connection.get(event.connection)
        for key_id in event.key_ids:
            key = self._sessions.confirm(key_id.bytes)
            if key is not None:
                self._place(key, now)
        if session is not None:
            self.top_up(session, now)

    def _place(self, key: Key, now: float) -> None:
        """To the first request that waits for such a key, else to stock."""
        session = key.session
        for request in session.waiting:
            if request.length == key.length:
                session.waiting.remove(request)
                self.serve(session, request, key, now)
                return
        if key.length == session.key_bytes and len(session.stock) < 2 * session.prefetch:
            self._sessions.put_in_stock(key)
        else:
            self.drop([key], now)

    def _arrived(self, event: transport.KeysArrived, now: float) -> None:
        session = self._sessions.by_connection.get(event.connection)
        for key_id, handle, length in event.keys:
            # Keys may still come while a connection closes because its application is gone: nobody will fetch them.
            if session is None or session.closed or session.application.client not in self._outbox.clients:
                self._sessions.store.release(handle)
            elif len(session.held) >= session.held_most:
                self._sessions.store.release(handle)
                self.count("window-ignored")
                session.connection.abort(now)
            elif not self._sessions.hold(session, key_id.bytes, handle, length, now):
                self._sessions.store.release(handle)
                self.count("key-id-twice")
                session.connection.abort(now)
        if session is not None:
            self.set_window(session, now)

    def _lost(self, key_ids: Iterable[UUID], now: float) -> None:
        keys = [key for key in (self._sessions.keys.get(key_id.bytes) for key_id in key_ids) if key is not None]
        lost = [key for key in keys if key.place is Place.FLIGHT]
        self.drop(lost, now)
        for session in {key.session for key in lost}:
            self._outbox.note("key-lost", "keys were not confirmed", keys=len(lost), **_whose(session))
            self.top_up(session, now)

    # What the peer tells -------------------------------------------------------------------------------------------

    def _message(self, local_port: int, remote: IPv4Address, remote_port: int, data: bytes) -> bool:
        """True when it has arrived; False when it must come again: it overtook what it builds on."""
        session = self._sessions.by_name.get((local_port, remote, remote_port))
        if session is None:
            return False
        now = self.now_s
        try:
            message = peer.decode(data)
        except RemoteProtocolError as error:
            self.count(error.reason)
            session.connection.abort(now)
            return True
        if session.peer is None and not isinstance(message, Hello | Delete):
            return False
        self._understood(session, message, now)
        return True

    def _understood(self, session: Session, message: peer.PeerMessage, now: float) -> None:
        if isinstance(message, Hello):
            self._hello(session, message, now)
        elif isinstance(message, Delete):
            self.agreement.deleted(session, message)
        else:
            self.agreement.receive(session, message, now)

    def _hello(self, session: Session, hello: Hello, now: float) -> None:
        application = session.application
        if session.peer is not None or hello.satype != application.satype:
            self.count("hello-mismatch")
            session.connection.abort(now)
            return
        session.peer = hello
        connection, request = session.connection, session.acquire or Message(MessageType.ACQUIRE, application.satype)
        request.extensions = {Ext.CONNECTION: self.describe(session)}
        if session.acquire is not None:
            self._outbox.answer(application.client, pfkey.build(request))
            session.acquire = None
        else:
            self._outbox.push(application.client, request)
        self._outbox.note(
            "session-opened", f"connection to {connection.remote} port {connection.remote_port}", **_whose(session)
        )
        self.top_up(session, now)

    def describe(self, session: Session) -> pfkey.Connection:
        connection, qos = session.connection, session.connection.qos
        peer_port = session.peer.port if session.peer else connection.remote_port
        return pfkey.Connection(
            session.id, int(connection.remote), session.application.port, peer_port, session.key_bytes,
            session.prefetch, qos.rate_bps, qos.burst_bits, qos.priority,
        )  # fmt: skip

    # The end of a connection ---------------------------------------------------------------------------------------

    def close(self, session: Session, now: float) -> None:
        """Orderly: unused keys go at both ends; the peer's application may still fetch what was given out."""
        self._fail_requests(session, errno.ECONNABORTED, "the connection was closed", now)
        unused = [key for key in self._sessions.of_session(session) if key.place is not Place.HELD]
        self.drop([key for key in unused if key.place is not Place.FLIGHT], now)
        session.connection.close(now)

    def _closed(self, event: transport.Closed, now: float) -> None:
        """After anything but an orderly end nobody knows what the peer holds: all goes, SAs too (rule 6)."""
        session = self._sessions.by_connection.pop(event.connection, None)
        if session is None:
            return
        orderly = event.reason is transport.CloseReason.CLOSED
        client, connection = session.application.client, session.connection
        number = _WHY.get(event.reason, errno.ECONNRESET)
        reason = f"the connection to {connection.remote} port {connection.remote_port} ended: {event.reason}"
        session.closed = True
        self._fail_requests(session, number, reason, now)
        session.quota.connections -= 1
        for key in self._sessions.of_session(session):
            if not orderly or key.place is not Place.HELD:
                self._sessions.wipe(key)
        if not orderly:
            self.agreement.forget_session(session)
        if not self._refuse_acquire(session, number, reason, now) and session.peer is not None:
            gone = Message(MessageType.DELETE, session.application.satype)
            gone.extensions = {Ext.CONNECTION: self.describe(session), Ext.REASON: pfkey.Reason(0, reason)}
            self._outbox.push(client, gone)
        self._outbox.note("session-closed", reason, **_whose(session))
        self._sessions.forget_if_empty(session)

    def give_up_waiting(self, session: Session, number: int, reason: str, now: float) -> None:
        """Nothing gets to the peer for now: those who wait for a key, or for the connection, hear why."""
        while session.waiting:
            self.fail(session, session.waiting.popleft(), number, reason)
        if self._refuse_acquire(session, number, reason, now):
            session.connection.abort(now)

    def _refuse_acquire(self, session: Session, number: int, reason: str, now: float) -> bool:
        """To a client whose connection does not come to stand, unless there is another place to try. False when it
        stands."""
        if session.acquire is None:
            return False
        message, session.acquire = session.acquire, None
        if session.search is not None:
            self.next_place(session.search, Refused(number, reason), now)
        else:
            self._outbox.fail(session.application.client, message, number, reason)
        return True

    def _fail_requests(self, session: Session, number: int, reason: str, now: float) -> None:
        while session.waiting:
            self.fail(session, session.waiting.popleft(), number, reason)
        for request in list(session.pending.values()):
            self._give_up(session, request, now)
            self.fail(session, request, number, reason)

    def _give_up(self, session: Session, request: Request, now: float) -> None:
        """The key of a request that waits for the peer to install it goes at both ends."""
        if request.key is not None:
            self.agreement.remove(request.key.key_id)
            self.drop([request.key], now)

    # Time ----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        self.now_s = now
        self.courier.tick(now)
        self.agreement.tick(now)
        expired: dict[Session, list[bytes]] = {}
        for key in self._sessions.expire(now):
            if key.place is not Place.HELD:
                expired.setdefault(key.session, []).append(key.key_id)
        for session, key_ids in expired.items():
            self.tell_deleted(session, key_ids, now)
        for session in list(self._sessions.by_id.values()):
            self._time_out(session, now)
            self.top_up(session, now)
            self.set_window(session, now)
            self._sessions.forget_if_empty(session)

    def _time_out(self, session: Session, now: float) -> None:
        while session.waiting and session.waiting[0].deadline_s <= now:
            reason = f"no key was confirmed in time{self._warning(session, now)}"
            self.fail(session, session.waiting.popleft(), errno.ETIMEDOUT, reason)
        for request in [request for request in session.pending.values() if request.deadline_s <= now]:
            self._give_up(session, request, now)
            self.fail(session, request, errno.ETIMEDOUT, "the far end did not install the SA in time")

    def _warning(self, session: Session, now: float) -> str:
        """What the network said lately."""
        connection = session.connection
        if connection.warned_s is None or now - connection.warned_s > WARNING_S:
            return ""
        return f": the network says that node {connection.remote} cannot be reached"

    def deadline(self) -> float | None:
        """When tick is next needed."""
        times = [self._sessions.deadline(), self.agreement.table.deadline(), self.courier.deadline()]
        times += [session.refill_at_s for session in self._sessions.by_id.values() if session.refill_at_s > self.now_s]
        return min((time for time in times if time is not None), default=None)


def _whose(session: Session) -> dict[str, str | int]:
    """Fields of the journal. The service adds the link that leads to the peer."""
    return {"session": session.id, "peer": str(session.connection.remote)}
