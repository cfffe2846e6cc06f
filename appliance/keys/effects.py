"""What the core wants done, in this order: the service carries effects out one after another."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from appliance.keys.registry import Application


class Send(NamedTuple):
    """A message for a client. pushed: it is no answer, so it counts against the bound of the client's queue."""

    client: int
    message: bytes
    pushed: bool = False


class Give(NamedTuple):
    """Write the audit record; then send the message with the key put in; then wipe the key (at once when the record
    cannot be written or the client is gone)."""

    client: int
    message: bytes
    handle: int
    places: tuple[int, int, int, int]
    record: str
    pushed: bool = False


class Announce(NamedTuple):
    """To the routing unit: an application that the whole network may know of, or one that is gone."""

    application: Application
    gone: bool = False


class Find(NamedTuple):
    """To the routing unit: which applications have this name? The answer goes to KeysCore.found()."""

    number: int
    name: str


class Note(NamedTuple):
    """An entry for the journal: an event of services/events.py, a text, fields."""

    event: str
    text: str
    fields: dict[str, str | int]


Effect: TypeAlias = Send | Give | Note | Announce | Find
