"""Connections between applications, and the keys of each.

A key is drawn at the asking end, travels, and is confirmed; then it waits in the asking end's stock until it is given
out. The other end holds it by its ID. So the two ends' stocks never hold the same key, and no key is given out by both:

    drawn here:    FLIGHT -> STOCK -> given to our application
    drawn there:   HELD (by ID) -> fetched once by our application, or installed as an SA

A key is in exactly one of these places, and in `Sessions.keys` as long as it is in one. Leaving the last one wipes it.
Stock expires well before the other end's hold does, so what is given out can still be fetched there.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from itertools import islice
from typing import TYPE_CHECKING, Protocol, TypeAlias
from uuid import UUID

from appliance.keys.peer import Hello
from appliance.keys.pfkey import Message
from appliance.keys.policy import Quota
from appliance.keys.registry import Application
from appliance.transport.connection import Connection

if TYPE_CHECKING:
    from appliance.keys.finding import Search

DRAW_MOST = 256  # keys drawn and handed to the transport in one go
KeyRow: TypeAlias = tuple[UUID, int, int]  # as the transport takes them: key ID, handle, bytes


class Store(Protocol):
    """The shelf, as far as sessions need it."""

    def draw(self, length_bytes: int, count: int) -> list[int]: ...
    def release(self, handle: int) -> None: ...


class Place(Enum):
    FLIGHT = "flight"
    STOCK = "stock"
    HELD = "held"
    TAKEN = "taken"  # being given out, or assigned to an outbound SA that the other end has not installed yet


@dataclass(slots=True, eq=False)
class Key:
    key_id: bytes
    handle: int
    length: int
    session: Session
    place: Place
    since_s: float  # drawn or arrived


@dataclass(slots=True, eq=False)
class Request:
    """A client's GETSPI that waits for its key."""

    message: Message
    length: int
    deadline_s: float
    key: Key | None = None  # once it is assigned and waits for the other end


@dataclass(slots=True, eq=False)
class Session:
    id: int
    connection: Connection
    application: Application
    quota: Quota
    key_bytes: int
    prefetch: int
    held_most: int
    acquire: Message | None = None  # the request to answer when it stands
    search: Search | None = None  # when it was asked for by name: other places to try
    peer: Hello | None = None
    closed: bool = False
    stock: deque[Key] = field(default_factory=deque)
    flight: dict[bytes, Key] = field(default_factory=dict)
    flying: Counter[int] = field(default_factory=Counter)  # keys in flight by their length
    held: dict[bytes, Key] = field(default_factory=dict)  # in order of arrival
    pending: dict[bytes, Request] = field(default_factory=dict)
    waiting: deque[Request] = field(default_factory=deque)
    window_left: int = 0
    confirmed: int = 0
    delivered: int = 0
    filling: bool = False  # the stock is on its way to `prefetch`
    refill_at_s: float = 0.0  # the source or the shelf had nothing: not before then

    @property
    def name(self) -> tuple[int, IPv4Address, int]:
        connection = self.connection
        return connection.local_port, connection.remote, connection.remote_port

    @property
    def refill_below(self) -> int:
        return self.prefetch * 3 // 4

    @property
    def ready(self) -> bool:
        return self.peer is not None and not self.closed


class Sessions:
    """All connections of the node and all keys of them. `random(n)` gives n random bytes (for key IDs)."""

    def __init__(self, store: Store, random: Callable[[int], bytes], stock_s: float, hold_s: float) -> None:
        self.store, self._random = store, random
        self.stock_s, self.hold_s = stock_s, hold_s
        self.by_id: dict[int, Session] = {}
        self.by_connection: dict[Connection, Session] = {}
        self.by_name: dict[tuple[int, IPv4Address, int], Session] = {}  # own port, node, its port; the latest
        self.keys: dict[bytes, Key] = {}
        self._next_id = 1

    def add(self, session: Session) -> None:
        self.by_id[session.id] = session
        self.by_connection[session.connection] = session
        self.by_name[session.name] = session

    def new_id(self) -> int:
        while self._next_id in self.by_id or self._next_id == 0:
            self._next_id = (self._next_id + 1) % 2**32
        self._next_id += 1
        return self._next_id - 1

    # Keys that we draw ---------------------------------------------------------------------------------------------

    def lacking(self, session: Session) -> dict[int, int]:
        """How many keys of which length should be drawn now."""
        want: dict[int, int] = {}
        for request in session.waiting:
            want[request.length] = want.get(request.length, 0) + 1
        usual, stock, flying = session.key_bytes, len(session.stock), session.flying
        # The stock is filled up once a quarter of it is gone, so that keys travel many to a segment.
        if stock + flying[usual] <= session.refill_below:
            session.filling = True
        elif stock + flying[usual] >= session.prefetch:
            session.filling = False
        if session.filling:
            want[usual] = want.get(usual, 0) + session.prefetch
        if usual in want:
            want[usual] -= stock
        return {length: count - flying[length] for length, count in want.items() if count > flying[length]}

    def draw(self, session: Session, length: int, count: int, now: float) -> list[KeyRow]:
        """Draws keys for the transport to send. Raises OSError as Shelf.draw does."""
        count = min(count, DRAW_MOST, session.quota.stock_room)
        if count <= 0:
            return []
        handles = self.store.draw(length, count)
        noise = self._random(16 * len(handles))
        rows = []
        for number, handle in enumerate(handles):
            key_id = UUID(bytes=noise[16 * number : 16 * number + 16], version=4)
            key = Key(key_id.bytes, handle, length, session, Place.FLIGHT, now)
            session.flight[key.key_id] = self.keys[key.key_id] = key
            rows.append((key_id, handle, length))
        session.flying[length] += len(rows)
        session.quota.stock += len(rows)
        return rows

    def confirm(self, key_id: bytes) -> Key | None:
        """The other end holds the key: from FLIGHT to nowhere yet; the caller gives it out or stocks it."""
        key = self.keys.get(key_id)
        if key is None or key.session.flight.pop(key_id, None) is None:
            return None
        key.place = Place.TAKEN
        key.session.flying[key.length] -= 1
        key.session.confirmed += 1
        return key

    def put_in_stock(self, key: Key) -> None:
        key.place = Place.STOCK
        key.session.stock.append(key)

    def take_from_stock(self, session: Session, length: int, now: float) -> Key | None:
        """The oldest key that has not expired."""
        if length != session.key_bytes:
            return None
        while session.stock:
            if now - session.stock[0].since_s >= self.stock_s:
                return None  # expire() takes it away and tells the other end
            key = session.stock.popleft()
            key.place = Place.TAKEN
            return key
        return None

    # Keys that the other end drew ----------------------------------------------------------------------------------

    def hold(self, session: Session, key_id: bytes, handle: int, length: int, now: float) -> bool:
        """False when the ID is known already: the same name must never mean other bytes."""
        if key_id in self.keys:
            return False
        key = Key(key_id, handle, length, session, Place.HELD, now)
        session.held[key_id] = self.keys[key_id] = key
        session.window_left -= 1
        return True

    def window(self, session: Session) -> int | None:
        """How many keys more the other end may send, when it is time to tell it again."""
        room = max(0, session.held_most - len(session.held))
        if room - session.window_left < (session.held_most + 1) // 2:
            return None
        session.window_left = room
        return room

    # Leaving -------------------------------------------------------------------------------------------------------

    def detach(self, key: Key) -> None:
        """Takes the key out of every place; its bytes stay, for whoever takes the handle over."""
        session = key.session
        del self.keys[key.key_id]
        if key.place is Place.HELD:
            del session.held[key.key_id]
        else:
            session.quota.stock -= 1
            if session.flight.pop(key.key_id, None) is not None:
                session.flying[key.length] -= 1
            session.pending.pop(key.key_id, None)
            if key.place is Place.STOCK:
                session.stock.remove(key)

    def wipe(self, key: Key) -> None:
        self.detach(key)
        self.store.release(key.handle)

    def of_session(self, session: Session) -> list[Key]:
        pending = [request.key for request in session.pending.values() if request.key is not None]
        return [*session.stock, *session.flight.values(), *session.held.values(), *pending]

    def expire(self, now: float) -> Iterator[Key]:
        """Wipes what is too old and yields it: stock (the other end must hear of it) and held keys."""
        for session in list(self.by_id.values()):
            while session.stock and now - session.stock[0].since_s >= self.stock_s:
                key = session.stock[0]
                self.wipe(key)
                yield key
            while session.held:
                key = next(iter(session.held.values()))
                if now - key.since_s < self.hold_s:
                    break
                self.wipe(key)
                yield key

    def deadline(self) -> float | None:
        """When the next key expires or the next request has waited too long."""
        times = []
        for session in self.by_id.values():
            if session.stock:
                times.append(session.stock[0].since_s + self.stock_s)
            if session.held:
                times.append(next(iter(session.held.values())).since_s + self.hold_s)
            # Requests have all the same time, so the oldest is the first.
            times += [
                request.deadline_s for request in (*islice(session.waiting, 1), *islice(session.pending.values(), 1))
            ]
        return min(times, default=None)

    def forget_if_empty(self, session: Session) -> bool:
        """A closed session stays as long as it has keys to fetch."""
        if not session.closed or self.of_session(session):
            return False
        self.by_id.pop(session.id, None)
        if self.by_name.get(session.name) is session:
            del self.by_name[session.name]
        return True
