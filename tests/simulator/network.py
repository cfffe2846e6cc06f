"""A deterministic network of 3 to 100 nodes: link machines, C engines and C relays in one process, one key oracle.

Relays crash with packets queued, tables change while packets flow, wires lose, double and reorder. What must hold:
every session key that arrives is the one that was sent, once; no packet circles; no word of any link's key covers two
things, and each one that is spent has sealed something; when the faults stop, every key arrives.
"""

from __future__ import annotations

import heapq
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Any

from appliance.native.forward import NetworkDrop
from appliance.native.link import LinkParams
from appliance.q3p.link import LinkMachine
from appliance.q3p.records import BlockEntry, BlockName
from appliance.q3p.reserves import Marks
from appliance.q3p.settings import BOOTSTRAP_DEVICE, LinkSettings

from .channel import MS, SECOND
from .disk import Crash, Disk
from .graph import Graph, Joint, address_of
from .oracle import KeyMisuse, KeyOracle
from .packets import _checksum, key_packet, key_packet_id, key_packet_key
from .relay import Node, RelayEnd, RelayEngine

BLOCK_BYTES = 4096
ENOUGH_BYTES = 5 * BLOCK_BYTES
NEVER = 2**62
TTL = 255
KEY_BYTES = (32, 32, 32, 512)
KEEP_RECORDS = 1000
LATEST_SEALING_NS = 300 * MS
SETTLING_NS = 15 * SECOND  # longer than a dead neighbour goes unnoticed


@dataclass(frozen=True)
class Weather:
    """What goes wrong. Probabilities for each packet on a wire; effects of an end of a link between crashes of its node
    (0: none)."""

    loss: float = 0.05
    duplication: float = 0.05
    reordering: float = 0.1
    late_sealing: float = 0.05  # for each time that an end has something to seal
    effects_between_crashes: int = 150
    changes_each_s: float = 0.5  # of the network's costs
    burst: int = 4  # keys that a node sends at once
    load: tuple[float, float, float] = (3.0, 0.5, 60.0)  # w, L_cr, supply in words a second


CLEAR_SKY = Weather(loss=0, duplication=0, reordering=0, late_sealing=0, effects_between_crashes=0, changes_each_s=0)


@dataclass
class Tally:
    """What a run did."""

    crashes: int = 0
    crashes_with_queue: int = 0
    changes: int = 0
    keys_sent: int = 0
    keys_delivered: int = 0
    hops: int = 0
    packets: int = 0
    trace: Any = field(default_factory=sha256)


@dataclass
class Wire:
    """Both ends of a link, the master's first."""

    ends: tuple[RelayEnd, RelayEnd]
    disks: tuple[Disk, Disk]


class Network:
    """``crashes``: how many to strike before the faults stop."""

    def __init__(self, seed: int, nodes: int, joints: list[Joint], weather: Weather, crashes: int) -> None:
        self.random = Random(seed)
        self.weather, self.crash_goal = weather, crashes
        self.tally = Tally()
        self.oracle = KeyOracle()
        self.graph = Graph.of(nodes, joints, self.random)
        self.now_ns = 0
        self.version = 0  # of all tables
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.due: list[tuple[int, int, RelayEnd]] = []
        self.order = itertools.count()
        self.next_block = itertools.count()
        self.serial = 0
        self.keys: dict[bytes, tuple[int, bytes]] = {}  # to whom, what
        self.delivered: set[bytes] = set()
        self.path: dict[bytes, tuple[int, set[int]]] = {}  # table version, nodes seen
        self.calm = True
        self.nodes = [Node(number, address_of(number), self._deliver, self._seen) for number in range(nodes)]
        self.wires = [self._wire(low, high) for low, high in sorted(self.graph.costs)]
        self.effects_left = [self._life(node) for node in self.nodes]
        for node in self.nodes:
            node.load = weather.load
        self._change_tables(hold_ns=0)

    # --- making it ---------------------------------------------------------------------------------------------------

    def _wire(self, low: int, high: int) -> Wire:
        disks = Disk(Random(self.random.random())), Disk(Random(self.random.random()))
        for _ in range(2):
            data = self.random.randbytes(2048)
            entry = BlockEntry(BlockName(BOOTSTRAP_DEVICE, next(self.next_block)), len(data))
            self.oracle.block_made(entry.name, data)
            for disk in disks:
                disk.files[entry.name] = data
        ends = self._end(low, high, disks[0]), self._end(high, low, disks[1])
        wire = Wire(ends, disks)
        for mine, other in ((ends[0], ends[1]), (ends[1], ends[0])):
            mine.transmit = lambda packet, mine=mine, other=other: self._transmit(mine, other, packet)
        self.at(self.random.randrange(100 * MS), lambda: self._device(wire))
        return wire

    def _end(self, here: int, there: int, disk: Disk) -> RelayEnd:
        low, high = sorted((int(address_of(here)), int(address_of(there))))
        marks = Marks(store_bytes=256, low_bytes=512, high_bytes=2048)
        settings = LinkSettings(
            low << 32 | high, here < there, chunk_bytes=BLOCK_BYTES, marks=marks, keepalive_ns=2 * SECOND
        )
        params = LinkParams(
            link_id=low << 32 | high,
            master=here < there,
            queue_slots=16,
            flight_slots=32,
            window_words=1024,
            reserve_words=16,
            ack_delay_ns=20 * MS,
            rto_ns=100 * MS,
            rto_max_ns=800 * MS,
            give_up_tries=12,
            buffer_words=2048,
        )
        end = RelayEnd(
            f"{here}>{there}",
            settings,
            params,
            RelayEngine(params),
            disk,
            self.oracle,
            Random(self.random.random()).randbytes,
            transmit=lambda packet: None,
            deliver=lambda packet: None,
            effect=lambda: self._effect(here),
            trace=lambda *what: None,
            keep_records=KEEP_RECORDS,
            late=self._late,
        )
        self.nodes[here].add(end)
        return end

    def _late(self) -> int:
        late = self.random.random() < self.weather.late_sealing
        return self.random.randrange(LATEST_SEALING_NS) if late else 0

    def _life(self, node: Node) -> int:
        mean = self.weather.effects_between_crashes * len(node.ends)
        return self.random.randrange(2 * mean + 1) if mean else NEVER

    # --- running -----------------------------------------------------------------------------------------------------

    def at(self, delay_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_ns + delay_ns, next(self.order), action))

    def run(self, calm_keys: int, limit_s: int = 600) -> Tally:
        """Until the crash goal and every link have come up, then ``calm_keys`` keys that must all arrive."""
        for node in self.nodes:
            self.at(self.random.randrange(50 * MS), lambda node=node: self._boot(node))  # type: ignore[misc]
        self._until(lambda: all(end.usable for end in self._ends()), limit_s, "the links did not come up")
        if self.crash_goal:
            self.calm = False
            self.at(1, self._traffic)
            self.at(1, self._weather_changes)
            self._until(lambda: self.tally.crashes >= self.crash_goal, limit_s, "too few crashes")
        self._calm_down()
        self._run_for(SETTLING_NS)
        self._until(lambda: all(end.usable for end in self._ends()), limit_s, "the links did not come back")
        first = self.serial
        while self.serial < first + calm_keys:
            self.send_key(*self._random_pair())
        wanted = {name for name in self.keys if name[8:] > first.to_bytes(8, "big")}
        self._until(lambda: wanted <= self.delivered, limit_s, "keys of calm days did not arrive")
        self._check_end()
        return self.tally

    def _ends(self) -> list[RelayEnd]:
        return [end for node in self.nodes for end in node.ends]

    def _until(self, reached: Callable[[], bool], limit_s: int, otherwise: str) -> None:
        limit_ns = self.now_ns + limit_s * SECOND
        while not reached():
            if self.now_ns > limit_ns:
                raise KeyMisuse(f"{otherwise} in {limit_s} s: {self._states()}")
            self._run_for(50 * MS)

    def _run_for(self, duration_ns: int) -> None:
        until_ns = self.now_ns + duration_ns
        while True:
            first = min(self.events[0][0] if self.events else NEVER, self.due[0][0] if self.due else NEVER)
            if first > until_ns:
                break
            self.now_ns = max(self.now_ns, first)
            self._step()
        self.now_ns = until_ns

    def _step(self) -> None:
        if self.due and (not self.events or self.due[0][0] <= self.events[0][0]):
            due_ns, _, end = heapq.heappop(self.due)
            if end.due_ns == due_ns:  # else it was scheduled anew since
                end.due_ns = NEVER
                self._act(end, lambda machine: machine.tick(self.now_ns))
        else:
            heapq.heappop(self.events)[2]()

    def _act(self, end: RelayEnd, action: Callable[[LinkMachine], None]) -> None:
        """One input to an end; what its node's relay then has for other links goes out as well."""
        node = end.node
        if end.machine is None:
            return
        try:
            end.run(self.now_ns, action)
            self._schedule(end)
            self._pump(node)
        except Crash:
            self._crashed(node)

    def _pump(self, node: Node) -> None:
        while node.touched:
            end = node.ends[node.touched.pop()]
            end.run(self.now_ns, lambda machine: None)
            self._schedule(end)

    def _schedule(self, end: RelayEnd) -> None:
        deadline = end.deadline_ns()
        end.due_ns = NEVER if deadline is None else max(deadline, self.now_ns + 1)
        if deadline is not None:
            heapq.heappush(self.due, (end.due_ns, next(self.order), end))

    def _states(self) -> str:
        down = [end for end in self._ends() if not end.usable]
        return "; ".join(f"{end.name} {end.machine.status() if end.machine else 'dead'}" for end in down[:4])

    # --- crashes -----------------------------------------------------------------------------------------------------

    def _effect(self, number: int) -> None:
        if self.calm:
            return
        self.effects_left[number] -= 1
        if self.effects_left[number] < 0:
            raise Crash

    def _boot(self, node: Node) -> None:
        self.effects_left[node.number] = self._life(node)
        try:
            node.boot(self.now_ns)
            for end in node.ends:
                self._schedule(end)
        except Crash:
            self._crashed(node)

    def _crashed(self, node: Node) -> None:
        self.tally.crashes += 1
        self.tally.crashes_with_queue += node.waiting() > 0
        self.tally.trace.update(b"crash %d" % node.number)
        node.die()
        for end in node.ends:
            end.due_ns = NEVER
        self.at(self.random.randrange(500 * MS), lambda: self._boot(node))

    def _calm_down(self) -> None:
        self.calm = True
        self.weather = CLEAR_SKY

    # --- wires, devices, tables --------------------------------------------------------------------------------------

    def _transmit(self, sender: RelayEnd, receiver: RelayEnd, packet: bytes) -> None:
        self.tally.packets += 1
        self.tally.trace.update(packet)
        weather, draw = self.weather, self.random.random
        copies = (draw() >= weather.loss) + (draw() < weather.duplication)
        for _ in range(copies):
            delay_ns = MS + int(draw() * (100 * MS if draw() < weather.reordering else MS))
            self.at(delay_ns, lambda session=sender.session: self._arrive(receiver, packet, session))  # type: ignore[misc]

    def _arrive(self, receiver: RelayEnd, packet: bytes, session: object) -> None:
        receiver.sealed_in = session
        self._act(receiver, lambda machine: receiver._packet(machine, packet))

    def _device(self, wire: Wire) -> None:
        low = any(end.machine is None or end.machine.log.state.common_bytes < ENOUGH_BYTES for end in wire.ends)
        alive = all(end.machine is not None for end in wire.ends)
        if low and alive:
            data = self.random.randbytes(BLOCK_BYTES)
            entry = BlockEntry(BlockName(0, next(self.next_block)), BLOCK_BYTES)
            self.oracle.block_made(entry.name, data)
            for end in wire.ends:
                self._act(end, lambda machine, end=end: end.take_block(machine, entry, data))  # type: ignore[misc]
        self.at(100 * MS if low and alive else 400 * MS, lambda: self._device(wire))

    def _weather_changes(self) -> None:
        if self.calm:
            return
        if self.random.random() < self.weather.changes_each_s:
            for joint in self.random.sample(sorted(self.graph.costs), 1 + len(self.graph.costs) // 10):
                self.graph.costs[joint] = self.random.randint(1, 9)
            self._change_tables(hold_ns=self.random.choice((0, SECOND)))
            self.tally.changes += 1
        self.at(SECOND, self._weather_changes)

    def _change_tables(self, hold_ns: int) -> None:
        self.version += 1
        for node, table in zip(self.nodes, self.graph.tables(), strict=True):
            node.set_table(table, self.now_ns, hold_ns)

    # --- traffic -----------------------------------------------------------------------------------------------------

    def _traffic(self) -> None:
        if self.calm:
            return
        source, target = self._random_pair()
        for _ in range(self.random.randint(1, self.weather.burst)):
            self._send_key(source, target)
        self._pump_after_sending(self.nodes[source])
        self.at(self.random.randrange(1, 2_000 * MS // len(self.nodes)), self._traffic)

    def _random_pair(self) -> tuple[int, int]:
        source, target = self.random.sample(range(len(self.nodes)), 2)
        return source, target

    def _send_key(self, source: int, target: int) -> None:
        """It waits in its link's queue until the node is pumped."""
        node = self.nodes[source]
        self.serial += 1
        if not node.alive:
            return
        key = self.random.randbytes(self.random.choice(KEY_BYTES))
        packet = with_ttl(key_packet(address_of(source), address_of(target), self.serial, key))
        self.keys[key_packet_id(packet)] = (target, key)
        self.tally.keys_sent += node.originate(self.now_ns, packet, self.random.randbytes(len(key)))

    def send_key(self, source: int, target: int) -> None:
        """One session key, and the time to get to the neighbour."""
        self._send_key(source, target)
        self._pump_after_sending(self.nodes[source])
        self._run_for(20 * MS)

    def _pump_after_sending(self, node: Node) -> None:
        try:
            self._pump(node)
        except Crash:
            self._crashed(node)

    def _seen(self, number: int, name: bytes) -> None:
        """A packet is at this node: never twice under the same tables."""
        self.tally.hops += 1
        version, nodes = self.path.get(name, (self.version, set()))
        if version != self.version:
            version, nodes = self.version, set()
        if number in nodes:
            raise KeyMisuse(f"a packet circles: at node {number} again, by {sorted(nodes)}")
        nodes.add(number)
        self.path[name] = version, nodes

    def _deliver(self, number: int, packet: bytes) -> None:
        name = key_packet_id(packet)
        target, key = self.keys[name]
        if target != number or key_packet_key(packet) != key:
            raise KeyMisuse(f"node {number} got other bytes under a key's name")
        if name in self.delivered:
            raise KeyMisuse(f"node {number} got a key twice")
        self.delivered.add(name)
        self.tally.keys_delivered += 1

    # --- the end -----------------------------------------------------------------------------------------------------

    def drops(self, reason: NetworkDrop) -> int:
        return sum(node.drops[reason] for node in self.nodes)

    def _check_end(self) -> None:
        for reason in (
            NetworkDrop.TTL,
            NetworkDrop.NO_ROUTE,
            NetworkDrop.CHECKSUM,
            NetworkDrop.SHORT,
            NetworkDrop.SOURCE,
        ):
            if self.drops(reason):
                raise KeyMisuse(f"{self.drops(reason)} packets were dropped for {reason.name}")
        for end in self._ends():
            end.check_memory()


def with_ttl(packet: bytes) -> bytes:
    header = packet[:8] + bytes([TTL, packet[9], 0, 0]) + packet[12:20]
    return header[:10] + struct.pack(">H", _checksum(header)) + packet[12:]
