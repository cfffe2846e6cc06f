"""Endpoints joined by a seeded network that loses, repeats, reorders, corrupts and marks; and an oracle that watches.

The oracle gives each key its own content and follows it by handles, as the data plane does with bytes: what the
receiver gets are new handles, and each must come back in one event, with the content that the key ID stands for.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from uuid import UUID

from appliance.transport.admission import Qos
from appliance.transport.connection import Connection
from appliance.transport.constants import MAX_CONNECTIONS
from appliance.transport.endpoint import Endpoint, Outgoing
from appliance.transport.events import (
    Accepted,
    Closed,
    CloseReason,
    Discard,
    Event,
    KeysArrived,
    KeysConfirmed,
    KeysLost,
    Opened,
)

TAG_BYTES = 16
KEY_FLAG = 16


@dataclass
class Faults:
    """Chances for one packet, 0..1, and its delay."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    corruption: float = 0.0
    marking: float = 0.0
    delay_s: float = 0.01


STORM = Faults(loss=0.3, duplication=0.1, reordering=0.2, corruption=0.05, marking=0.02)


class Node:
    """One node: its endpoint, and what it told. A restart makes a new endpoint and forgets all handles."""

    def __init__(self, world: World, address: str) -> None:
        self.world = world
        self.address = IPv4Address(address)
        self.lives = 0
        self.restart()

    def restart(self) -> None:
        self.lives += 1
        self.endpoint = Endpoint(self.address, self.world.random.randbytes)
        self.accepted: list[Connection] = []
        self.opened: list[Connection] = []
        self.closed: dict[Connection, CloseReason] = {}
        self.waiting: set[int] = set()  # handles given to receive() and not yet back


class World:
    def __init__(self, seed: int, addresses: tuple[str, ...] = ("1.1.0.1", "1.1.0.5"), **faults: float) -> None:
        self.random = random.Random(seed)
        self.faults = Faults(**faults)
        self.now = 1000.0
        self.nodes = {IPv4Address(address): Node(self, address) for address in addresses}
        self.content: dict[UUID, int] = {}  # key ID -> content
        self.of_handle: dict[int, int] = {}  # handle -> content
        self.sender: dict[UUID, Connection] = {}
        self.delivered: Counter[UUID] = Counter()
        self.confirmed: Counter[UUID] = Counter()
        self.lost: Counter[UUID] = Counter()
        self.packets: Counter[str] = Counter()
        self.key_bytes = 0
        self.history: list[tuple[IPv4Address, bytes, tuple[int, ...]]] = []  # to be replayed
        self._under_way: list[tuple[float, int, IPv4Address, bytes, tuple[int, ...]]] = []
        self._serial = 0

    def node(self, index: int) -> Node:
        return list(self.nodes.values())[index]

    def number(self) -> int:
        self._serial += 1
        return self._serial

    # -- users

    def connect(self, index: int, to: int, port: int, local_port: int = 0, qos: Qos | None = None) -> Connection:
        connection = self.node(index).endpoint.connect(self.now, local_port, self.node(to).address, port, qos)
        self.flush()
        return connection

    def send(self, connection: Connection, count: int = 1, length: int = 32, flush: bool = True) -> list[UUID]:
        keys = []
        for _ in range(count):
            key_id, handle = UUID(bytes=self.random.randbytes(16)), self.number()
            self.content[key_id] = self.of_handle[handle] = self.number()
            self.sender[key_id] = connection
            keys.append((key_id, handle, length))
        connection.send_keys(self.now, keys)
        if flush:
            self.flush()
        return [key_id for key_id, _, _ in keys]

    # -- time

    def run(self, seconds: float) -> None:
        """Let time pass, event by event."""
        end = self.now + seconds
        self.flush()
        while (upcoming := self._next_time()) is not None and upcoming <= end:
            self.now = max(self.now, upcoming)
            for node in self.nodes.values():
                deadline = node.endpoint.deadline()
                if deadline is not None and deadline <= self.now:
                    node.endpoint.tick(self.now)
            while self._under_way and self._under_way[0][0] <= self.now:
                _, _, to, clear, handles = heapq.heappop(self._under_way)
                self.deliver(to, clear, handles)
            self.flush()
        self.now = end

    def _next_time(self) -> float | None:
        deadlines = [node.endpoint.deadline() for node in self.nodes.values()]
        times = [deadline for deadline in deadlines if deadline is not None]
        if self._under_way:
            times.append(self._under_way[0][0])
        return min(times, default=None)

    # -- the network

    def deliver(self, to: IPv4Address, clear: bytes, sent_handles: tuple[int, ...]) -> None:
        node = self.nodes[to]
        handles = []
        for sent in sent_handles:
            handle = self.number()
            self.of_handle[handle] = self.of_handle[sent]
            handles.append(handle)
        node.waiting.update(handles)
        node.endpoint.receive(self.now, clear, handles)

    def flush(self) -> None:
        for node in self.nodes.values():
            for event in node.endpoint.events():
                self._watch(node, event)
            for outgoing in node.endpoint.outgoing():
                self._carry(outgoing)

    def _carry(self, outgoing: Outgoing) -> None:
        clear, faults, chance = outgoing.clear, self.faults, self.random.random
        assert len(clear) + outgoing.key_bytes <= 1280
        self.packets["key" if clear[32] & KEY_FLAG else "control"] += 1
        self.key_bytes += outgoing.key_bytes + TAG_BYTES
        to = IPv4Address(clear[16:20])
        self.history.append((to, clear, outgoing.handles))
        if to not in self.nodes:
            return
        for _ in range(2 if chance() < faults.duplication else 1):
            if chance() < faults.loss:
                continue
            copy = bytearray(clear)
            if chance() < faults.corruption:
                copy[self.random.randrange(len(copy))] ^= 1 << self.random.randrange(8)
            elif chance() < faults.marking and copy[1] & 3 == 2:
                copy[1] |= 3
                copy[10:12] = ((int.from_bytes(copy[10:12], "big") - 1) % 0xFFFF).to_bytes(2, "big")
            late = self.random.random() * 0.1 if chance() < faults.reordering else 0.0
            arrival = (self.now + faults.delay_s + late, self.number(), to, bytes(copy), outgoing.handles)
            heapq.heappush(self._under_way, arrival)

    # -- the oracle

    def _watch(self, node: Node, event: Event) -> None:
        match event:
            case Opened(connection):
                node.opened.append(connection)
            case Accepted(connection):
                node.accepted.append(connection)
            case KeysArrived(connection, keys):
                assert connection in node.accepted or connection in node.opened
                assert connection not in node.closed
                for key_id, handle, _ in keys:
                    node.waiting.remove(handle)
                    assert self.of_handle[handle] == self.content[key_id], "another key's bytes under this ID"
                    self.delivered[key_id] += 1
                    assert self.delivered[key_id] == 1, "delivered twice"
            case KeysConfirmed(connection, key_ids):
                for key_id in key_ids:
                    assert self.sender[key_id] is connection
                    assert self.delivered[key_id] == 1, "confirmed but not delivered"
                    self.confirmed[key_id] += 1
                    assert self.confirmed[key_id] + self.lost[key_id] == 1
            case KeysLost(connection, key_ids):
                for key_id in key_ids:
                    assert self.sender[key_id] is connection
                    self.lost[key_id] += 1
                    assert self.confirmed[key_id] + self.lost[key_id] == 1
            case Closed(connection, reason):
                assert connection not in node.closed, "closed twice"
                node.closed[connection] = reason
            case Discard(handles):
                node.waiting.difference_update(handles) if node.waiting.issuperset(handles) else self._leak()

    def _leak(self) -> None:
        raise AssertionError("a handle came back that was not given")

    def check_rest(self) -> None:
        """After events were taken: no handle is forgotten, nothing grew without bound."""
        for node in self.nodes.values():
            assert not node.waiting, "handles that never came back"
            assert len(node.endpoint.connections) <= MAX_CONNECTIONS
