"""The short way for requests that a client repeats: a GETSPI of the TLS satype on a connection with keys in stock.

Clients ask for key after key with messages that differ in the sequence number alone. The first one is parsed and leaves
a plan: the session, and the answer with blanks for sequence number, key ID and key. The next ones find the plan by
their bytes. Rules, quota, expiry and audit are the same on both ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.keys import audit
from appliance.keys.effects import Give
from appliance.keys.pfkey import Ext, Key, KeyId, Message, MessageType, SaType, build, key_offsets, parse
from appliance.keys.policy import Quota
from appliance.keys.sessions import Key as StoredKey
from appliance.keys.sessions import Session, Sessions

if TYPE_CHECKING:
    from appliance.keys.clients import Client

PLANS_MOST = 16


def name_of(data: bytes) -> bytes:
    """The request without its sequence number."""
    return data[:8] + data[12:]


def tls_answer(kind: int, key_id: bytes, length: int, seq: int, pid: int) -> tuple[bytes, tuple[int, int, int, int]]:
    """Key ID and key, in answer to GETSPI and GET; and where the key goes."""
    message = Message(kind, SaType.TLS, seq, pid)
    message.extensions = {Ext.KEY_ID: KeyId(0, key_id), Ext.KEY_ENCRYPT: Key(8 * length)}
    data = build(message)
    return data, (key_offsets(data)[0], length, 0, 0)


@dataclass(slots=True, eq=False)
class Plan:
    """Hot: one flat function, few objects. `keys` is Sessions.keys, `quota` the client's."""

    session: Session
    keys: dict[bytes, StoredKey]
    quota: Quota
    stock_s: float
    head: bytes  # before the sequence number
    pid_and_id_head: bytes  # between sequence number and key ID
    tail: bytes  # behind the key ID
    places: tuple[int, int, int, int]
    whom: str

    def give(self, seq: bytes, now: float) -> tuple[bytes, int, str] | None:
        """Message, handle and audit record of the oldest key in stock; None when there is none to give: then the long
        way has the reasons."""
        session, length = self.session, self.places[1]
        stock = session.stock
        if not stock or session.closed or session.key_bytes != length or now - stock[0].since_s >= self.stock_s:
            return None
        if not self.quota.take_key(now):
            return None
        key = stock.popleft()
        key_id = key.key_id
        del self.keys[key_id]
        self.quota.stock -= 1
        session.delivered += 1
        message = self.head + seq + self.pid_and_id_head + key_id + self.tail
        return message, key.handle, audit.delivered(key_id, length, self.whom)

    def give_of(self, client: int, given: tuple[bytes, int, str]) -> Give:
        """The same as an effect, for when it cannot go out at once."""
        message, handle, record = given
        return Give(client, message, handle, self.places, record)


def make(client: Client, session: Session, sessions: Sessions, data: bytes) -> None:
    """Leaves a plan for the request `data`, which has been checked and granted."""
    application = session.application
    if len(client.plans) >= PLANS_MOST:
        client.plans.clear()
    request = parse(data)
    blank = b"\xaa" * 16
    answer, places = tls_answer(MessageType.GETSPI, blank, session.key_bytes, 0, request.pid)
    at = answer.index(blank, 16)
    whom = audit.consumer(client.who, application.satype, application.port)
    client.plans[name_of(data)] = Plan(
        session,
        sessions.keys,
        session.quota,
        sessions.stock_s,
        answer[:8],
        answer[12:at],
        answer[at + 16 :],
        places,
        whom,
    )
