"""Two ends of a link in one process over a perfect channel, driven step by step; the key oracle watches them too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from appliance.native.link import LinkParams
from appliance.q3p.link import LinkMachine, Mode
from appliance.q3p.records import BlockEntry, BlockName, Record, decode
from appliance.q3p.reserves import Marks
from appliance.q3p.settings import BOOTSTRAP_DEVICE, LinkSettings
from tests.simulator.channel import MS, SECOND
from tests.simulator.disk import Disk
from tests.simulator.end import SimulatedEnd
from tests.simulator.oracle import KeyOracle
from tests.simulator.packets import key_packet, key_packet_clear
from tests.simulator.runs import engines
from tests.simulator.world import ADDRESSES, BLOCK_BYTES

MASTER, SLAVE = 0, 1


class Pair:
    def __init__(self) -> None:
        self.random = Random(1)
        self.now_ns = 0
        self.oracle = KeyOracle()
        self.disks = [Disk(Random(2)), Disk(Random(3))]
        self.wire: deque[tuple[int, bytes]] = deque()
        self.sent: list[tuple[int, bytes]] = []
        self.passes: Callable[[int, bytes], bool] = lambda sender, packet: True
        self.events: list[tuple[str, str]] = []
        self.keys_delivered = 0
        self.next_block = 0
        self.ends = [self._end(index) for index in (MASTER, SLAVE)]

    def _end(self, index: int) -> SimulatedEnd:
        marks = Marks(store_bytes=256, low_bytes=512, high_bytes=2048)
        return SimulatedEnd(
            "MS"[index],
            LinkSettings(7, index == MASTER, chunk_bytes=BLOCK_BYTES, marks=marks),
            LinkParams(7, index == MASTER, 64, 64, 1024, 16, 20 * MS, 100 * MS, 800 * MS, 12, 4096),
            engines()[index],
            self.disks[index],
            self.oracle,
            Random(4 + index).randbytes,
            transmit=lambda packet: self._transmit(index, packet),
            deliver=self._deliver,
            effect=lambda: None,
            trace=lambda who, event, fields: self.events.append((who, event)),
            keep_records=4096,
        )

    def _transmit(self, sender: int, packet: bytes) -> None:
        self.sent.append((sender, packet))
        if self.passes(sender, packet):
            self.wire.append((1 - sender, packet))

    def _deliver(self, packet: bytes) -> None:
        self.keys_delivered += 1

    def machine(self, index: int) -> LinkMachine:
        machine = self.ends[index].machine
        assert machine is not None
        return machine

    def records(self, index: int) -> list[Record]:
        log = self.machine(index).log
        return [decode(log.record(number)) for number in range(log.base, log.length)]

    @property
    def modes(self) -> tuple[Mode, Mode]:
        return self.machine(MASTER).mode, self.machine(SLAVE).mode

    @property
    def up(self) -> bool:
        return all(end.up for end in self.ends)

    @property
    def usable(self) -> bool:
        return self.up and all(end.usable for end in self.ends)

    def load_secret(self, number: int, length: int = 1024) -> None:
        for part in range(4):
            self.put_block(BlockName(BOOTSTRAP_DEVICE, number << 8 | part), length)

    def put_block(self, name: BlockName, length: int = BLOCK_BYTES) -> None:
        """On both disks, before a start."""
        data = self.random.randbytes(length)
        self.oracle.block_made(name, data)
        for disk in self.disks:
            disk.files[name] = data

    def arrive(self, *indexes: int, equal: bool = True) -> BlockEntry:
        """A device block comes in at these ends."""
        entry = BlockEntry(BlockName(1, self.next_block), BLOCK_BYTES)
        self.next_block += 1
        data = self.random.randbytes(BLOCK_BYTES)
        for index in indexes:
            self.bring(index, entry, data)
            if not equal:
                data = self.random.randbytes(BLOCK_BYTES)
        return entry

    def bring(self, index: int, entry: BlockEntry, data: bytes) -> None:
        self.oracle.block_made(entry.name, data)
        end = self.ends[index]
        end.run(self.now_ns, lambda machine: end.take_block(machine, entry, data))

    def boot(self, *indexes: int) -> None:
        for index in indexes or (MASTER, SLAVE):
            self.ends[index].boot(self.now_ns)

    def until(self, reached: Callable[[], Any], limit_s: float = 60) -> None:
        """Carry packets and let time pass until then."""
        limit = self.now_ns + int(limit_s * SECOND)
        while not reached():
            assert self.now_ns < limit, f"not reached in {limit_s} s: {[end.machine.status() for end in self.ends]}"
            self.step()

    def run(self, seconds: float) -> None:
        until = self.now_ns + int(seconds * SECOND)
        while self.wire or self.now_ns < until:
            self.step(until)

    def step(self, latest: int = 2**62) -> None:
        self.now_ns += 1000
        if self.wire:
            index, packet = self.wire.popleft()
            self.ends[index].packet(self.now_ns, packet)
            return
        dues = [end.deadline_ns() or 0 for end in self.ends]
        self.now_ns = max(self.now_ns, min(*dues, latest))
        for end, due in zip(self.ends, dues, strict=True):
            if due <= self.now_ns:
                end.run(self.now_ns, lambda machine: machine.tick(self.now_ns))

    def send_key(self, index: int) -> bool:
        self.keys_serial = getattr(self, "keys_serial", 0) + 1
        packet = key_packet(ADDRESSES[index], ADDRESSES[1 - index], self.keys_serial, self.random.randbytes(32))
        return self.ends[index].send_key_packet(self.now_ns, packet, key_packet_clear(packet))

    def spend(self, reached: Callable[[], Any], limit_s: float = 60) -> None:
        """Send keys both ways, with fresh blocks from the devices, until then."""
        limit = self.now_ns + int(limit_s * SECOND)
        while not reached():
            assert self.now_ns < limit, f"not reached in {limit_s} s: {[end.machine.status() for end in self.ends]}"
            if len(self.machine(MASTER).log.state.common) < 4:
                self.arrive(MASTER, SLAVE)
            self.send_key(MASTER)
            self.send_key(SLAVE)
            self.run(0.01)

    def check_carries_keys(self) -> None:
        before = self.keys_delivered
        assert self.send_key(MASTER) and self.send_key(SLAVE)
        self.until(lambda: self.keys_delivered == before + 2)


def started() -> Pair:
    """Up, usable, with some common key."""
    pair = Pair()
    pair.load_secret(1)
    pair.boot()
    pair.until(lambda: pair.up)
    for _ in range(8):
        pair.arrive(MASTER, SLAVE)
    pair.until(lambda: pair.usable)
    pair.run(3)  # until both logs are equal again
    return pair
