"""The clients at pfkey.sock, and what goes out to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from appliance.keys import audit, pfkey
from appliance.keys.effects import Effect, Give, Note, Send
from appliance.keys.policy import Credentials, Quota
from appliance.keys.sessions import Key, Sessions

if TYPE_CHECKING:
    from appliance.keys.plan import Plan


@dataclass(slots=True, eq=False)
class Client:
    """wants_reason: its errors carry a text. plans: requests seen before, by their bytes without seq."""

    id: int
    who: Credentials
    quota: Quota
    wants_reason: bool = False
    plans: dict[bytes, Plan] = field(default_factory=dict)


class Outbox:
    """Queues effects for clients; a message for a client that is gone comes to nothing, its key is wiped."""

    def __init__(self, sessions: Sessions) -> None:
        self.clients: dict[int, Client] = {}
        self.effects: list[Effect] = []
        self._sessions = sessions

    def take(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects

    def answer(self, client: int, message: bytes) -> None:
        if client in self.clients:
            self.effects.append(Send(client, message))

    def push(self, client: int, message: pfkey.Message) -> None:
        if client in self.clients:
            self.effects.append(Send(client, pfkey.build(message), pushed=True))

    def fail(self, client: int, request: pfkey.Message, number: int, reason: str) -> None:
        known = self.clients.get(client)
        if known is not None:
            text = reason if known.wants_reason else None
            self.effects.append(Send(client, pfkey.error(request, number, text)))

    def give(self, key: Key, message: bytes, places: tuple[int, int, int, int], pushed: bool = False) -> None:
        """The key leaves for its session's application; from here on the effect owns its bytes."""
        application = key.session.application
        client = self.clients.get(application.client)
        if client is None:
            self._sessions.wipe(key)
            return
        self._sessions.detach(key)
        key.session.delivered += 1
        whom = audit.consumer(client.who, application.satype, application.port)
        record = audit.delivered(key.key_id, key.length, whom)
        self.effects.append(Give(client.id, message, key.handle, places, record, pushed))

    def note(self, event: str, text: str, **fields: str | int) -> None:
        self.effects.append(Note(event, text, fields))
