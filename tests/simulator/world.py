"""A deterministic world: two ends of a link, the channel between them, their devices, an adversary, and time.

Everything follows from one seed: the same seed gives the same trace. Crashes strike between any two effects of an end
(a write, a packet sent, a packet verified); the disk may be rolled back, writes may fail, the channel loses,
duplicates, reorders, corrupts and replays. The key oracle watches every word of key; at the end the faults stop and
the link must come up and carry keys again.
"""

from __future__ import annotations

import errno
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from ipaddress import IPv4Address
from random import Random
from typing import Any

from appliance.native.link import LinkParams
from appliance.q3p.link import LinkMachine, Mode
from appliance.q3p.records import BlockEntry, BlockName
from appliance.q3p.reserves import Marks
from appliance.q3p.settings import BOOTSTRAP_DEVICE, LinkSettings

from .disk import Crash, Disk, Snapshot
from .end import SimulatedEnd
from .oracle import KeyMisuse, KeyOracle
from .packets import key_packet, key_packet_clear, key_packet_id, key_packet_key
from .probe import ProbeEngine

MS = 1_000_000
SECOND = 1_000_000_000
ADDRESSES = (IPv4Address("1.1.1.1"), IPv4Address("1.1.1.2"))
BLOCK_BYTES = 4096
KEY_BYTES = 32
MOST_BLOCKS = 40  # on both disks


@dataclass(frozen=True)
class Faults:
    """What goes wrong, as probabilities for each packet and mean counts between crashes."""

    loss: float = 0.3
    duplication: float = 0.1
    reordering: float = 0.2
    corruption: float = 0.05
    replay: float = 0.02
    effects_between_crashes: int = 60
    rollback: float = 0.05  # of crashes
    withhold: float = 0.05  # of crashes: the channel is cut for a while with it
    disk_failure: float = 0.03  # of device blocks: the next write fails
    mismatch: float = 0.02  # of device blocks: the ends' bytes differ
    lost_block: float = 0.02  # of device blocks: one end never gets it
    keep_records: int = 0  # the log is compacted to so many; 0: the product's number


CALM = Faults(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


@dataclass
class Figures:
    """What a run did."""

    crashes: int = 0
    rollbacks: int = 0
    disk_failures: int = 0
    keys_sent: int = 0
    keys_delivered: int = 0
    sessions: int = 0
    secrets: int = 0
    packets: int = 0
    trace: Any = field(default_factory=sha256)


class World:
    """``crashes``: how many crash points to strike before the faults stop."""

    def __init__(self, seed: int, engines: tuple[ProbeEngine, ProbeEngine], faults: Faults, crashes: int) -> None:
        self.random = Random(seed)
        self.faults, self.crash_goal = faults, crashes
        self.oracle = KeyOracle()
        self.figures = Figures()
        self.now_ns = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.calm = False
        self.cut_until_ns = 0
        self.sent: deque[tuple[int, bytes]] = deque(maxlen=400)
        self.log: deque[str] = deque(maxlen=60)
        self.effects_left = [0, 0]
        self.snapshots: list[deque[Snapshot]] = [deque(maxlen=6), deque(maxlen=6)]
        self.rolled_back: int | None = None  # the end rolled back since both were last up
        self.keys: dict[bytes, tuple[int, bytes]] = {}
        self.delivered: list[set[bytes]] = [set(), set()]
        self.next_block = 0
        self.key_serial = 0
        self.secret_due_ns = -1
        self.disks = [Disk(Random(self.random.random())), Disk(Random(self.random.random()))]
        self.ends = [self._end(index, engines[index]) for index in (0, 1)]
        if faults.keep_records:
            for end in self.ends:
                end.keep_records = faults.keep_records
        self._bootstrap()

    def _end(self, index: int, engine: ProbeEngine) -> SimulatedEnd:
        link_id = int(ADDRESSES[0]) << 32 | int(ADDRESSES[1])
        marks = Marks(store_bytes=256, low_bytes=512, high_bytes=2048)
        settings = LinkSettings(link_id, index == 0, chunk_bytes=BLOCK_BYTES, marks=marks, keepalive_ns=2 * SECOND)
        params = LinkParams(
            link_id=link_id,
            master=index == 0,
            queue_slots=64,
            flight_slots=64,
            window_words=1024,
            reserve_words=16,
            ack_delay_ns=20 * MS,
            rto_ns=100 * MS,
            rto_max_ns=800 * MS,
            give_up_tries=12,
            buffer_words=4096,
        )
        rng = Random(self.random.random())
        return SimulatedEnd(
            "MS"[index],
            settings,
            params,
            engine,
            self.disks[index],
            self.oracle,
            rng.randbytes,
            transmit=lambda packet: self._transmit(index, packet),
            deliver=lambda packet: self._deliver(index, packet),
            effect=lambda: self._effect(index),
            trace=self._trace,
        )

    def _bootstrap(self) -> None:
        """The operator loads a fresh link secret at both ends."""
        self.figures.secrets += 1
        for number in range(4):
            data = self.random.randbytes(2048)
            entry = BlockEntry(BlockName(BOOTSTRAP_DEVICE, self.figures.secrets << 8 | number), len(data))
            self.oracle.block_made(entry.name, data)
            for disk in self.disks:
                disk.files[entry.name] = data

    # --- running -----------------------------------------------------------------------------------------------------

    def at(self, delay_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_ns + delay_ns, next(self.order), action))

    def _trace(self, who: str, event: str, fields: dict[str, Any]) -> None:
        line = f"{self.now_ns / SECOND:.3f} {who} {event} {fields}"
        self.log.append(line)
        self.figures.trace.update(line.encode())
        if event == "session-up":
            self.figures.sessions += 1

    def run(self, limit_s: int = 3600) -> Figures:
        """Run until the crash goal is reached, then calmly until both ends are up and carry keys. Raises KeyMisuse."""
        for index in (0, 1):
            self.at(self.random.randrange(100 * MS), lambda index=index: self._boot(index))  # type: ignore[misc]
        self.at(10 * MS, self._device)
        self.at(50 * MS, self._traffic)
        while not self._settled():
            if not self.events or self.now_ns > limit_s * SECOND:
                raise KeyMisuse(f"the link did not come back: {self._states()}")
            self.now_ns, _, action = heapq.heappop(self.events)
            self._wake()
            action()
        self._check_end()
        return self.figures

    def _states(self) -> str:
        return "; ".join(
            f"{end.name} " + ("dead" if end.machine is None else f"{end.machine.status()}") for end in self.ends
        )

    def _wake(self) -> None:
        """Give each end whose deadline has come its tick."""
        for index, end in enumerate(self.ends):
            deadline = end.deadline_ns() if end.machine is not None else None
            if deadline is not None and deadline <= self.now_ns:
                self._run(index, lambda machine: machine.tick(self.now_ns))

    def _run(self, index: int, action: Callable[[LinkMachine], None]) -> None:
        try:
            self.ends[index].run(self.now_ns, action)
        except Crash:
            self._crashed(index)
        else:
            self._after(index)

    def _after(self, index: int) -> None:
        end = self.ends[index]
        machine = end.machine
        if machine is None:
            return
        if machine.mode is Mode.FAILED:
            end.machine = None
            self.at(self.random.randrange(SECOND), lambda: self._boot(index))
        elif machine.mode is Mode.QUARANTINE:
            raise KeyMisuse(f"{end.name} quarantined without two rollbacks: {machine.cause}")
        elif all(other.up for other in self.ends):
            self.rolled_back = None
        elif machine.cause.startswith("no key left") and self.secret_due_ns < self.now_ns:
            self.secret_due_ns = self.now_ns + 60 * SECOND
            self.at(5 * SECOND, self._new_secret)
        deadline = end.deadline_ns()
        if deadline is not None and deadline < 2**62:
            self.at(max(deadline - self.now_ns, 0) + 1, lambda: None)

    # --- crashes -----------------------------------------------------------------------------------------------------

    def _effect(self, index: int) -> None:
        if self.calm or not self.faults.effects_between_crashes:
            return
        self.effects_left[index] -= 1
        if self.effects_left[index] < 0:
            self.figures.crashes += 1
            if self.figures.crashes >= self.crash_goal:
                self.calm = True
            raise Crash

    def _boot(self, index: int) -> None:
        mean = self.faults.effects_between_crashes
        # half of the crashes strike soon after the start: hello and sync are where the bookkeeping is at stake
        self.effects_left[index] = self.random.randrange(12 if self.random.random() < 0.5 else 2 * mean + 1)
        self._remember(index)
        try:
            self.ends[index].boot(self.now_ns)
        except Crash:
            self._crashed(index)
        else:
            self._after(index)

    def _new_secret(self) -> None:
        """A link whose last common key is gone needs its operator: nothing else can make one."""
        self._bootstrap()
        for index in (0, 1):
            if self.ends[index].machine is not None:
                self.ends[index].machine = None
                self._boot(index)

    def _crashed(self, index: int) -> None:
        self._trace("MS"[index], "crash", {})
        draw = self.random.random()
        faults = self.faults
        if draw < faults.rollback and self.rolled_back in (None, index) and self.snapshots[index]:
            kept = self.snapshots[index]
            # later snapshots belong to a history that is given up here: going back to one would rightly quarantine
            while len(kept) > self.random.randrange(1, len(kept) + 1):
                kept.pop()
            self.disks[index].restore(kept[-1])
            self.rolled_back = index
            self.figures.rollbacks += 1
            self._trace("MS"[index], "rollback", {"log": len(self.disks[index].log)})
        elif draw < faults.rollback + faults.withhold:
            self.cut_until_ns = self.now_ns + self.random.randrange(3 * SECOND)
        self.at(self.random.randrange(500 * MS), lambda: self._boot(index))

    def _remember(self, index: int) -> None:
        if self.faults.rollback and self.random.random() < 0.3:
            self.snapshots[index].append(self.disks[index].snapshot())

    # --- the channel -------------------------------------------------------------------------------------------------

    def _transmit(self, sender: int, packet: bytes) -> None:
        self.figures.packets += 1
        self.figures.trace.update(packet)
        faults, draw = (CALM if self.calm else self.faults), self.random.random
        self.sent.append((sender, packet))
        if self.now_ns < self.cut_until_ns and not self.calm:
            return
        copies = (0 if draw() < faults.loss else 1) + (1 if draw() < faults.duplication else 0)
        for _ in range(copies):
            delay = MS + (self.random.randrange(150 * MS) if draw() < faults.reordering else self.random.randrange(MS))
            self._carry(1 - sender, self._perhaps_corrupt(packet, faults), delay)
        if draw() < faults.replay:
            old_sender, old = self.random.choice(self.sent)
            self._carry(self.random.choice((old_sender, 1 - old_sender)), old, self.random.randrange(SECOND))

    def _perhaps_corrupt(self, packet: bytes, faults: Faults) -> bytes:
        if self.random.random() >= faults.corruption:
            return packet
        broken = bytearray(packet)
        kind = self.random.random()
        if kind < 0.6:
            broken[self.random.randrange(len(broken))] ^= 1 << self.random.randrange(8)
        elif kind < 0.8:
            del broken[self.random.randrange(len(broken)) :]
        else:
            broken[12:20] = self.random.randbytes(8)
        return bytes(broken)

    def _carry(self, receiver: int, packet: bytes, delay_ns: int) -> None:
        self.at(delay_ns, lambda: self._receive(receiver, packet))

    def _receive(self, index: int, packet: bytes) -> None:
        try:
            self.ends[index].packet(self.now_ns, packet)
        except Crash:
            self._crashed(index)
        else:
            self._after(index)

    # --- devices and traffic -----------------------------------------------------------------------------------------

    def _device(self) -> None:
        """A device pair makes a block, at the pace at which key is used up, so that runs go on for ever."""
        low = any(end.machine is None or end.machine.log.state.common_bytes < 12 * BLOCK_BYTES for end in self.ends)
        if low and (self.calm or len(self.disks[0].files.keys() & self.disks[1].files) < MOST_BLOCKS):
            faults = CALM if self.calm else self.faults
            entry = BlockEntry(BlockName(self.next_block % 2, self.next_block), BLOCK_BYTES)
            self.next_block += 1
            data = self.random.randbytes(BLOCK_BYTES)
            self.oracle.block_made(entry.name, data)
            lost_at = self.random.choice((0, 1)) if self.random.random() < faults.lost_block else None
            for index in (0, 1):
                if index == lost_at:
                    continue
                mine = data
                if index == 1 and self.random.random() < faults.mismatch:
                    mine = self.random.randbytes(BLOCK_BYTES)
                    self.oracle.block_made(entry.name, mine)
                self.at(self.random.randrange(200 * MS), self._arrival(index, entry, mine))
        self.at(40 * MS if not self.calm else 200 * MS, self._device)

    def _arrival(self, index: int, entry: BlockEntry, data: bytes) -> Callable[[], None]:
        def arrive() -> None:
            end, disk = self.ends[index], self.disks[index]
            if end.machine is None:
                self.at(300 * MS, arrive)  # the device keeps the block until it is accepted
                return
            if not self.calm and self.random.random() < self.faults.disk_failure:
                disk.fail = self.random.choice((errno.EIO, errno.ENOSPC))
                self.figures.disk_failures += 1

            def accept(machine: LinkMachine) -> None:
                try:
                    disk.write_block(entry, data)
                except OSError:
                    self.at(300 * MS, arrive)
                    return
                machine.block_arrived(self.now_ns, entry)

            self._run(index, accept)

        return arrive

    def _traffic(self) -> None:
        for index in (0, 1):
            if self.random.random() < 0.7:
                self._send_key(index)
        self.at(self.random.randrange(1, 120 * MS), self._traffic)

    def _send_key(self, index: int) -> None:
        self.key_serial += 1
        key = self.random.randbytes(KEY_BYTES)
        packet = key_packet(ADDRESSES[index], ADDRESSES[1 - index], self.key_serial, key)
        try:
            if self.ends[index].send_key_packet(self.now_ns, packet, key_packet_clear(packet)):
                self.keys[key_packet_id(packet)] = (1 - index, key)
                self.figures.keys_sent += 1
        except Crash:
            self.keys[key_packet_id(packet)] = (1 - index, key)
            self._crashed(index)
        else:
            self._after(index)

    def _deliver(self, index: int, packet: bytes) -> None:
        name = key_packet_id(packet)
        if name not in self.keys:
            raise KeyMisuse(f"{'MS'[index]} got a key nobody sent")
        receiver, key = self.keys[name]
        if receiver != index or key_packet_key(packet) != key:
            raise KeyMisuse(f"{'MS'[index]} got other bytes under a key's name")
        if name in self.delivered[index]:
            raise KeyMisuse(f"{'MS'[index]} got a key twice")
        self.delivered[index].add(name)
        self.figures.keys_delivered += 1

    # --- the end -----------------------------------------------------------------------------------------------------

    def _settled(self) -> bool:
        """Calm, both up and usable, and keys of the calm time delivered both ways."""
        if not self.calm:
            return False
        if not hasattr(self, "_calm_from"):
            self._calm_from = self.key_serial
            self._calm_ns = self.now_ns
        if self.now_ns - self._calm_ns > 600 * SECOND:
            raise KeyMisuse(f"the link did not come back in 600 s of calm: {self._states()}")
        if not all(end.up and end.usable for end in self.ends):
            return False
        fresh = [len([n for n in names if int.from_bytes(n[8:], "big") > self._calm_from]) for names in self.delivered]
        return min(fresh) >= 3

    def _check_end(self) -> None:
        """No ended chunk's bytes are left on a disk, and nothing below the floor is left in memory."""
        for index, end in enumerate(self.ends):
            assert end.machine is not None
            state = end.machine.log.state
            live = {entry.name for chunk in state.live() for entry in chunk.entries}
            left = [name for name in self.disks[index].files if name in state.stored and name not in live]
            if left:
                raise KeyMisuse(f"{end.name} keeps blocks of ended chunks: {left}")
            end.check_memory()
