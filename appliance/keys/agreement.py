"""The two ends' agreement that a key is now an SA: who allocates, who installs first, what is undone when it fails.

We receive:  allocate the SPI, install here, ASSIGN to the peer; its REFUSED deletes ours again.
We send:     ASSIGN with SPI 0; the peer allocates, installs, answers INSTALLED; then it is installed here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from appliance.keys.associations import Association, AssociationTable, split
from appliance.keys.clients import Outbox
from appliance.keys.errors import Refused
from appliance.keys.peer import Assign, Delete, Installed, PeerMessage, Refusal
from appliance.keys.pfkey import Ext, Lifetime, Message, MessageType, SaType, SpiRange
from appliance.keys.registry import PublicAddress
from appliance.keys.sessions import Key, Place, Request, Session, Sessions
from appliance.keys.spi import SpiAllocator

Tell = Callable[[Session, PeerMessage, float], None]
Fail = Callable[[Session, Request, int, str], None]


class Agreement:
    def __init__(self, sessions: Sessions, spis: SpiAllocator, outbox: Outbox, tell: Tell, fail: Fail) -> None:
        self._sessions, self._spis, self._outbox = sessions, spis, outbox
        self._tell, self._fail = tell, fail
        self.table = AssociationTable()

    def propose(self, session: Session, request: Request, key: Key, now: float) -> None:
        """Our application's request, checked by `check`, and the confirmed key for it."""
        message = request.message
        sa = self._asked(session, message, key)
        if sa.inbound:
            wanted = message.get(Ext.SPIRANGE) or SpiRange(0, 2**32 - 1)
            try:
                sa.spi = self._spis.allocate(wanted.min, wanted.max)
            except Refused as refused:
                self._sessions.wipe(key)
                self._tell(session, Delete((key.key_id,)), now)
                self._fail(session, request, refused.errno, refused.reason)
                return
            self.table.add(sa, now)
            self._outbox.give(key, *sa.add_message(message.seq, message.pid))
        else:
            request.key = key
            session.pending[key.key_id] = request
            self.table.add(sa, now)
        lifetimes = (sa.hard.addtime, sa.soft.addtime, sa.hard.bytes, sa.soft.bytes)
        self._tell(session, Assign(sa.key_id, sa.inbound, sa.spi, sa.encrypt, sa.auth, sa.mode, *lifetimes), now)

    def _asked(self, session: Session, message: Message, key: Key) -> Association:
        asked, mode = message.get(Ext.SA), message.get(Ext.SA2)
        source, destination = message.get(Ext.ADDRESS_SRC).ip, message.get(Ext.ADDRESS_DST).ip
        inbound = destination == session.application.address
        hard, soft = (message.get(number) or Lifetime() for number in (Ext.LIFETIME_HARD, Ext.LIFETIME_SOFT))
        sizes = split(asked.encrypt, asked.auth, key.length)
        client = session.application.client
        return Association(
            key.key_id, session.id, client, inbound, source, destination, asked.encrypt, asked.auth, *sizes,
            mode.mode if mode else 0, hard, soft,
        )  # fmt: skip

    def receive(self, session: Session, message: PeerMessage, now: float) -> None:
        if isinstance(message, Assign):
            self._assigned(session, message, now)
        elif isinstance(message, Installed):
            self._installed(session, message, now)
        elif isinstance(message, Refusal):
            self._refused(session, message)

    def _assigned(self, session: Session, message: Assign, now: float) -> None:
        """The peer's application asks that a key which we hold become an SA."""
        key = session.held.get(message.key_id)
        try:
            if key is None:
                raise Refused(errno.ESRCH, "that key is not held here")
            sa = self._offered(session, message, key)
            if not sa.inbound and sa.spi == 0:
                raise Refused(errno.EINVAL, "the receiving end names the SPI")
            if sa.inbound:
                sa.spi = self._spis.allocate()
        except Refused as refused:
            if key is not None:
                self._sessions.wipe(key)
            self._tell(session, Refusal(message.key_id, refused.errno, refused.reason), now)
            return
        self.table.add(sa, now)
        self._outbox.give(key, *sa.add_message(), pushed=True)
        self._tell(session, Installed(sa.key_id, sa.spi), now)

    def _offered(self, session: Session, message: Assign, key: Key) -> Association:
        hello, application = session.peer, session.application
        assert hello is not None  # receive() is called after the peer's HELLO
        if application.satype != SaType.ESP:
            raise Refused(errno.EPROTONOSUPPORT, "the application here is not registered for ESP")
        if application.client not in self._outbox.clients:
            raise Refused(errno.ENOTCONN, "the application here is gone")
        inbound = not message.inbound
        ends = (hello.address, application.address) if inbound else (application.address, hello.address)
        hard = Lifetime(0, message.hard_bytes, message.hard_s)
        soft = Lifetime(0, message.soft_bytes, message.soft_s)
        sizes = split(message.encrypt, message.auth, key.length)
        return Association(
            key.key_id, session.id, application.client, inbound, *ends, message.encrypt, message.auth, *sizes,
            message.mode, hard, soft, message.spi,
        )  # fmt: skip

    def _installed(self, session: Session, message: Installed, now: float) -> None:
        request = session.pending.get(message.key_id)
        sa = self.table.by_key_id.get(message.key_id)
        if sa is None:
            self._tell(session, Delete((message.key_id,)), now)  # given up here in the meantime
        elif request is not None and request.key is not None:
            sa.spi = message.spi
            self._outbox.give(request.key, *sa.add_message(request.message.seq, request.message.pid))

    def _refused(self, session: Session, message: Refusal) -> None:
        request = session.pending.get(message.key_id)
        sa = self.remove(message.key_id)
        reason = f"the far end refused: {message.reason}"
        if request is not None and request.key is not None:
            self._sessions.wipe(request.key)
            self._fail(session, request, message.errno or errno.EIO, reason)
        elif sa is not None and sa.session == session.id:
            self.notify_deleted(sa, message.errno)

    def deleted(self, session: Session, message: Delete) -> None:
        """Gone at the peer: an SA, or a key that we hold and nobody will ever name."""
        for key_id in message.key_ids:
            key = session.held.get(key_id)
            if key is not None:
                self._sessions.wipe(key)
            sa = self.table.by_key_id.get(key_id)
            if sa is not None and sa.session == session.id and key_id not in session.pending:
                self.remove(key_id)
                self.notify_deleted(sa)

    def notify_deleted(self, sa: Association, number: int = 0) -> None:
        message = sa.message(MessageType.DELETE)
        message.errno = number
        self._outbox.push(sa.client, message)

    def remove(self, key_id: bytes) -> Association | None:
        sa = self.table.remove(key_id)
        if sa is not None and sa.inbound:
            self._spis.free(sa.spi)
        return sa

    def forget_session(self, session: Session) -> None:
        """The peer may have lost everything: no SA of the session can be trusted to have its other end."""
        for sa in [sa for sa in self.table.by_key_id.values() if sa.session == session.id]:
            self.remove(sa.key_id)
            self.notify_deleted(sa)

    def forget_client(self, client: int) -> None:
        for sa in [sa for sa in self.table.by_key_id.values() if sa.client == client]:
            self.remove(sa.key_id)

    def tick(self, now: float) -> None:
        """EXPIRE for soft and hard lifetimes; a hard one ends the SA. Each end does it for itself."""
        for sa, hard in self.table.due(now):
            message = sa.message(MessageType.EXPIRE)
            unwanted = Ext.LIFETIME_SOFT if hard else Ext.LIFETIME_HARD
            message.extensions.pop(unwanted, None)
            message.extensions[Ext.LIFETIME_CURRENT] = Lifetime(0, 0, int(now - sa.added_s))
            if hard:
                self.remove(sa.key_id)
            self._outbox.push(sa.client, message)


def check(message: Message, own: PublicAddress, peer: PublicAddress, key_bytes: int) -> int:
    """A GETSPI for an ESP SA: bytes of key that it takes. Raises Refused (EINVAL, EADDRNOTAVAIL)."""
    asked, source, destination = (message.get(n) for n in (Ext.SA, Ext.ADDRESS_SRC, Ext.ADDRESS_DST))
    if asked is None or source is None or destination is None:
        raise Refused(errno.EINVAL, "an ESP SA needs the extensions SA (algorithms), ADDRESS_SRC and ADDRESS_DST")
    if {source.ip, destination.ip} != {own, peer}:
        raise Refused(errno.EADDRNOTAVAIL, f"the connection's ends are {own} and {peer}")
    return sum(split(asked.encrypt, asked.auth, key_bytes))


__all__ = ["Agreement", "Place", "check"]
