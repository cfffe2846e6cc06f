"""Connections by name: where in the network the application is.

The routing unit keeps the directory; the core asks it by an effect (Find) and is told what it knows, the nearest first.
Places are tried one after another: the nearest may have died before the network heard of it. While the directory is not
complete (routing has only just started), nothing found means nothing: it is asked again.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from appliance.keys.clients import Outbox
from appliance.keys.effects import Find
from appliance.keys.errors import Refused
from appliance.keys.pfkey import Message
from appliance.keys.policy import SATYPE_NAMES

FIND_S = 5.0  # all asking together
ASK_AGAIN_S = 0.25
SEARCHES_MOST = 1024  # that wait for an answer


class Where(NamedTuple):
    """An application of the network."""

    node: IPv4Address
    port: int
    satype: int


class Found(NamedTuple):
    """What the directory says, nearest first. complete: what is not there is not in the network."""

    places: Sequence[Where]
    complete: bool = True


@dataclass(slots=True, eq=False)
class Search:
    """A client's ACQUIRE by name, as long as places are left to try."""

    client: int
    message: Message
    name: str
    satype: int
    deadline_s: float
    ask_at_s: float | None = None
    places: deque[Where] = field(default_factory=deque)


# Begins a connection to a place. Raises Refused.
Connect = Callable[[Search, Where, float], None]


class Finding:
    def __init__(self, own: IPv4Address, outbox: Outbox, connect: Connect) -> None:
        self._own, self._outbox, self._connect = own, outbox, connect
        self._asked: dict[int, Search] = {}
        self._next = 1

    def begin(self, client: int, message: Message, name: str, satype: int, now: float) -> None:
        if len(self._asked) >= SEARCHES_MOST:
            raise Refused(errno.EAGAIN, f"{SEARCHES_MOST} searches wait already")
        number, self._next = self._next, self._next + 1
        self._asked[number] = Search(client, message, name, satype, now + FIND_S)
        self._outbox.effects.append(Find(number, name))

    def found(self, number: int, found: Found | None, now: float) -> None:
        """The directory's answer to Find; None when there is no directory."""
        search = self._asked.get(number)
        if search is None:
            return
        if found is not None and not found.places and not found.complete and now < search.deadline_s:
            search.ask_at_s = min(now + ASK_AGAIN_S, search.deadline_s)
            return
        del self._asked[number]
        try:
            search.places = self._chosen(search, found)
        except Refused as refused:
            self._outbox.fail(search.client, search.message, refused.errno, refused.reason)
            return
        self.next_place(search, None, now)

    def _chosen(self, search: Search, found: Found | None) -> deque[Where]:
        """Raises Refused when there is none that the application can talk to."""
        name = search.name
        if found is None:
            raise Refused(errno.EHOSTUNREACH, "no routing unit runs: connect by the node's address and port")
        if not found.places:
            unsure = "" if found.complete else ", as far as it is known: routing has not settled"
            raise Refused(errno.ENOENT, f"no application named {name!r} is registered in the network{unsure}")
        elsewhere = [place for place in found.places if place.node != self._own]
        if not elsewhere:
            raise Refused(errno.EINVAL, f"application {name!r} is at this node: keys go between nodes")
        fitting = deque(place for place in elsewhere if place.satype == search.satype)
        if not fitting:
            kinds = " and ".join(sorted({_kind(place.satype) for place in elsewhere}))
            raise Refused(
                errno.EPROTOTYPE, f"application {name!r} takes keys for {kinds}, not for {_kind(search.satype)}"
            )
        return fitting

    def next_place(self, search: Search, refused: Refused | None, now: float) -> None:
        """Tries the next one; `refused` is why the one before did not do."""
        while search.places and search.client in self._outbox.clients:
            try:
                self._connect(search, search.places.popleft(), now)
                return
            except Refused as another:
                refused = refused or another
        if refused is not None:
            self._outbox.fail(search.client, search.message, refused.errno, refused.reason)

    def forget_client(self, client: int) -> None:
        for number in [number for number, search in self._asked.items() if search.client == client]:
            del self._asked[number]

    def tick(self, now: float) -> None:
        for number, search in list(self._asked.items()):
            if search.ask_at_s is not None and search.ask_at_s <= now:
                search.ask_at_s = None
                self._outbox.effects.append(Find(number, search.name))
            elif search.deadline_s <= now and search.ask_at_s is None:
                del self._asked[number]
                reason = f"the routing unit did not say in time where application {search.name!r} is"
                self._outbox.fail(search.client, search.message, errno.ETIMEDOUT, reason)

    def deadline(self) -> float | None:
        times = (s.ask_at_s if s.ask_at_s is not None else s.deadline_s for s in self._asked.values())
        return min(times, default=None)


def _kind(satype: int) -> str:
    return SATYPE_NAMES.get(satype, f"SA type {satype}")
