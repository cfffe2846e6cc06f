"""A deterministic world: two ends of a link, the channel between them, their devices, an adversary, and time.

Everything follows from one seed: the same seed gives the same trace. Crashes strike between any two effects of an end
(a write, a packet sent, a packet verified); the disk may be rolled back, writes may fail, the channel belongs to the
adversary. The key oracle watches every word of key; at the end the faults stop and the link must come up and carry
keys again.
"""

from __future__ import annotations

import errno
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv4Address
from random import Random
from typing import Any

from appliance.native.link import LinkParams
from appliance.q3p.link import NO_KEY_LEFT, LinkMachine, Mode
from appliance.q3p.linklog import LinkLog
from appliance.q3p.records import DIGEST_BYTES, BlockEntry, BlockName, Close, Direction, decode
from appliance.q3p.reserves import Marks
from appliance.q3p.settings import BOOTSTRAP_DEVICE, LinkSettings

from .channel import MS, SECOND, Channel
from .disk import Crash, Disk, Snapshot, log_span
from .end import SimulatedEnd
from .faults import CALM, RECORD_NAMES, Faults, Figures
from .oracle import KeyMisuse, KeyOracle
from .packets import key_packet, key_packet_clear, key_packet_id, key_packet_key
from .probe import ProbeEngine

ADDRESSES = (IPv4Address("1.1.1.1"), IPv4Address("1.1.1.2"))
BLOCK_BYTES = 4096
SHORT_KEY_BYTES, LONG_KEY_BYTES = 32, 960  # a few long ones bring a chunk to its end
MOST_BLOCKS = 20  # on both disks
ENOUGH_BYTES = 7 * BLOCK_BYTES  # common key beyond which devices rest
NEVER = 2**62
EARLY_EFFECTS = 12  # hello and sync, where the bookkeeping is at stake


class World:
    """``crashes``: how many crash points to strike before the faults stop."""

    def __init__(self, seed: int, engines: tuple[ProbeEngine, ProbeEngine], faults: Faults, crashes: int) -> None:
        self.random = Random(seed)
        self.faults, self.crash_goal = faults, crashes
        self.oracle = KeyOracle(first_use=self._first_use)
        self.figures = Figures(trace=sha256())
        self.now_ns = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = itertools.count()
        self.calm_since: tuple[int, int] | None = None  # time, number of keys sent
        self.log: deque[str] = deque(maxlen=60)
        self.effects_left = [0, 0]
        self.strikes_open = [False, False]  # count only the effects while chunks are open
        self.due_ns = [NEVER, NEVER]  # when an end's timers want it
        self.snapshots: list[deque[Snapshot]] = [deque(maxlen=6), deque(maxlen=6)]
        self.rolled_back: int | None = None  # the end rolled back since both were last up
        self.keys: dict[bytes, tuple[int, bytes]] = {}
        self.delivered: list[set[bytes]] = [set(), set()]
        self.next_block = 0
        self.key_serial = 0
        self.secret_due_ns = -1
        self.channel = Channel(Random(self.random.random()), faults, self.figures, self.at, self._receive)
        self.disks = [Disk(Random(self.random.random())), Disk(Random(self.random.random()))]
        self.ends = [self._end(index, engines[index]) for index in (0, 1)]
        self.disks[0].appended = self._master_appended
        self.disks[1].appended = self._count_record
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
        return SimulatedEnd(
            "MS"[index],
            settings,
            params,
            engine,
            self.disks[index],
            self.oracle,
            Random(self.random.random()).randbytes,
            transmit=lambda packet: self._transmit(index, packet),
            deliver=lambda packet: self._deliver(index, packet),
            effect=lambda: self._effect(index),
            trace=self._trace,
            keep_records=self.faults.keep_records,
            late=self._late,
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

    def run(self, limit_s: int = 7200, calm_keys: int = 3) -> Figures:
        """Run until the crash goal is reached, then calmly until both ends are up and ``calm_keys`` more keys arrived
        each way. Raises KeyMisuse."""
        for index in (0, 1):
            self.at(self.random.randrange(100 * MS), lambda index=index: self._boot(index))  # type: ignore[misc]
        self.at(10 * MS, self._device)
        self.at(50 * MS, self._traffic)
        self.at(SECOND, self._adversary)
        if self.figures.crashes >= self.crash_goal:
            self._calm_down()
        while not self._settled(calm_keys):
            if self.now_ns > limit_s * SECOND:
                raise KeyMisuse(f"the link did not come back: {self._states()}")
            self._step()
        self._check_end()
        return self.figures

    def _step(self) -> None:
        """The next event, or an end's timer."""
        index = 0 if self.due_ns[0] <= self.due_ns[1] else 1
        if self.due_ns[index] <= self.events[0][0]:
            self.now_ns, self.due_ns[index] = self.due_ns[index], NEVER
            self._run(index, lambda machine: machine.tick(self.now_ns))
        else:
            self.now_ns, _, action = heapq.heappop(self.events)
            action()

    def _states(self) -> str:
        return "; ".join(
            f"{end.name} " + ("dead" if end.machine is None else f"{end.machine.status()}") for end in self.ends
        )

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
            self.due_ns[index] = NEVER
            self.at(self.random.randrange(SECOND), lambda: self._boot(index))
            return
        if machine.mode is Mode.QUARANTINE:
            raise KeyMisuse(f"{end.name} quarantined without two rollbacks: {machine.cause}")
        if machine.mode is Mode.UP and self.ends[1 - index].up:
            self.rolled_back = None
        if machine.cause == NO_KEY_LEFT and self.secret_due_ns < self.now_ns:
            self.secret_due_ns = self.now_ns + 60 * SECOND
            self.at(5 * SECOND, self._new_secret)
        deadline = end.deadline_ns()
        self.due_ns[index] = NEVER if deadline is None else max(deadline, self.now_ns + 1)

    # --- crashes -----------------------------------------------------------------------------------------------------

    def _effect(self, index: int) -> None:
        if self.calm_since is not None or not self.faults.effects_between_crashes:
            return
        if self.strikes_open[index] and not self.ends[index].chunks_open():
            return
        self.effects_left[index] -= 1
        if self.effects_left[index] < 0:
            self.figures.crashes += 1
            self.figures.crashes_with_open_chunks += self.ends[index].chunks_open()
            if self.figures.crashes >= self.crash_goal:
                self._calm_down()
            raise Crash

    def _late(self) -> int:
        late = self.random.random() < self.faults.late_sealing
        return self.random.randrange(int(self.faults.latest_sealing_s * SECOND)) if late else 0

    def _calm_down(self) -> None:
        self.calm_since = self.now_ns, self.key_serial
        self.channel.calm_down()
        self.faults = CALM
        for disk in self.disks:
            disk.fail, disk.full = None, False

    def _boot(self, index: int) -> None:
        faults, kind = self.faults, self.random.random()
        early = kind < faults.strike_early
        self.strikes_open[index] = not early and kind < faults.strike_early + faults.strike_open
        self.effects_left[index] = self.random.randrange(
            EARLY_EFFECTS if early else 2 * faults.effects_between_crashes + 1
        )
        self._remember(index)
        if self.random.random() < faults.withhold:
            self.channel.withhold(index, self.random.randrange(2 * SECOND))
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
        self.due_ns[index] = NEVER
        draw = self.random.random()
        faults = self.faults
        if draw < faults.rollback:
            self._roll_back(index)
        elif draw < faults.rollback + faults.cut:
            self.channel.cut(int(self.random.random() * faults.longest_cut_s * SECOND))
        self.at(self.random.randrange(500 * MS), lambda: self._boot(index))

    def _remember(self, index: int) -> None:
        if self.faults.rollback and self.random.random() < 0.3:
            self.snapshots[index].append(self.disks[index].snapshot())

    def _roll_back(self, index: int) -> None:
        """Not both ends without a session in between, nor to before what the peer still knows: that is not promised."""
        kept = self.snapshots[index]
        if self.rolled_back not in (None, index) or not kept:
            return
        # later snapshots belong to a history that is given up here: going back to one would rightly quarantine
        while len(kept) > self.random.randrange(1, len(kept) + 1):
            kept.pop()
        lost_records = log_span(self.disks[1 - index].log)[1] - log_span(kept[-1].log)[1]
        if lost_records > self.faults.keep_records // 2:
            kept.clear()
            return
        self.disks[index].restore(kept[-1])
        self.rolled_back = index
        self.figures.rollbacks += 1
        self._trace("MS"[index], "rollback", {"log": len(self.disks[index].log)})
        if self.random.random() < self.faults.recount:
            self.next_block -= self.random.randrange(min(self.next_block, MOST_BLOCKS) + 1)
        if self.random.random() < 0.5:
            self.channel.withhold(self.random.randrange(2), self.random.randrange(4 * SECOND))

    def _adversary(self) -> None:
        """Holds one direction back now and then, over whatever crashes and rollbacks happen meanwhile."""
        if self.random.random() < self.faults.withhold:
            self.channel.withhold(self.random.randrange(2), self.random.randrange(4 * SECOND))
        self.at(SECOND, self._adversary)

    # --- the channel -------------------------------------------------------------------------------------------------

    def _transmit(self, sender: int, packet: bytes) -> None:
        self.figures.trace.update(packet)
        self.channel.transmit(sender, packet)

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
        low = any(end.machine is None or end.machine.log.state.common_bytes < ENOUGH_BYTES for end in self.ends)
        made = low and len(self.disks[0].files.keys() & self.disks[1].files) < MOST_BLOCKS
        if made:
            self._make_block()
        self.at(40 * MS if made else 160 * MS, self._device)

    def _make_block(self) -> None:
        entry = BlockEntry(BlockName(self.next_block % 2, self.next_block), BLOCK_BYTES)
        self.next_block += 1
        data = self.random.randbytes(BLOCK_BYTES)
        self.oracle.block_made(entry.name, data)
        lost_at = self.random.choice((0, 1)) if self.random.random() < self.faults.lost_block else None
        for index in (0, 1):
            if index == lost_at:
                continue
            mine = data
            if index == 1 and self.random.random() < self.faults.mismatch:
                mine = self.random.randbytes(BLOCK_BYTES)
                self.oracle.block_made(entry.name, mine)
            self.at(self.random.randrange(200 * MS), self._arrival(index, entry, mine))

    def _arrival(self, index: int, entry: BlockEntry, data: bytes) -> Callable[[], None]:
        def arrive() -> None:
            end, disk = self.ends[index], self.disks[index]
            if end.machine is None:
                self.at(300 * MS, arrive)  # the device keeps the block until it is accepted
                return
            self._perhaps_fail(disk)

            def accept(machine: LinkMachine) -> None:
                try:
                    end.take_block(machine, entry, data)
                except OSError:
                    self.at(300 * MS, arrive)
                    return
                if self.random.random() < self.faults.again:
                    self.at(self.random.randrange(5 * SECOND), arrive)

            self._run(index, accept)

        return arrive

    def _perhaps_fail(self, disk: Disk) -> None:
        draw = self.random.random()
        if draw < self.faults.disk_failure:
            disk.fail = self.random.choice((errno.EIO, errno.ENOSPC))
            self.figures.disk_failures += 1
        elif draw < self.faults.disk_failure + self.faults.disk_full and not disk.full:
            disk.full = True
            self.figures.full_disks += 1
            self.at(self.random.randrange(3 * SECOND), lambda: self._room_again(disk))

    @staticmethod
    def _room_again(disk: Disk) -> None:
        disk.full = False

    def _traffic(self) -> None:
        for index in (0, 1):
            if self.random.random() < 0.7:
                self._send_key(index)
        self.at(self.random.randrange(1, 120 * MS), self._traffic)

    def _send_key(self, index: int) -> None:
        self.key_serial += 1
        end = self.ends[index]
        if end.machine is None or not end.usable:
            return
        long = self.random.random() < self.faults.long_keys
        key = self.random.randbytes(LONG_KEY_BYTES if long else SHORT_KEY_BYTES)
        packet = key_packet(ADDRESSES[index], ADDRESSES[1 - index], self.key_serial, key)
        name = key_packet_id(packet)
        self.keys[name] = (1 - index, key)
        try:
            self.figures.keys_sent += end.send_key_packet(self.now_ns, packet, key_packet_clear(packet))
        except Crash:
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

    # --- rules at single moments -------------------------------------------------------------------------------------

    def _first_use(self, name: BlockName) -> None:
        """A word is spent only from a chunk that both ends have durably recorded as open (or taken for epochs)."""
        if self.rolled_back is not None:
            return
        for end in self.ends:
            log = LinkLog(Disk(Random(0), end.disk.log)) if end.machine is None else end.machine.log
            chunks = [*log.state.opened.values()]
            if log.state.epoch_chunk is not None:
                chunks.append(log.state.chunks[log.state.epoch_chunk])
            if not any(entry.name == name for chunk in chunks for entry in chunk.entries):
                raise KeyMisuse(f"key of block {name} is used, and {end.name} has no durable record of it")
        held = [disk.files[name] for disk in self.disks if name in disk.files]
        if held[1:] and held[0] != held[1]:
            raise KeyMisuse(f"the ends hold different bytes under block {name}, which is used")

    def _count_record(self, frame: bytes) -> None:
        self.figures.records[RECORD_NAMES[frame[2]]] += 1

    def _master_appended(self, frame: bytes) -> None:
        """CLOSE comes when every packet under the chunk's words has arrived or was given up."""
        self._count_record(frame)
        record = decode(frame[2:-DIGEST_BYTES])
        if not isinstance(record, Close):
            return
        assert self.ends[0].machine is not None
        closed = self.ends[0].machine.log.state.chunks
        for number, chunk in ((number, closed[number]) for number in record.chunks if number in closed):
            sender = self.ends[0 if chunk.direction is Direction.MASTER_TO_SLAVE else 1]
            words = self.oracle.words_under_way({entry.name for entry in chunk.entries})
            if words and not sender.has_given_up():
                raise KeyMisuse(f"CLOSE of chunk {number} with {words} of its words still under way")

    # --- the end -----------------------------------------------------------------------------------------------------

    def _settled(self, calm_keys: int) -> bool:
        """Calm, both up and usable, and keys of the calm time delivered both ways."""
        if self.calm_since is None:
            return False
        time_ns, serial = self.calm_since
        if self.now_ns - time_ns > 600 * SECOND:
            raise KeyMisuse(f"the link did not come back in 600 s of calm: {self._states()}")
        if not all(end.usable and end.up for end in self.ends):
            return False
        first = serial.to_bytes(8, "big")
        return min(sum(name[8:] > first for name in names) for names in self.delivered) >= calm_keys

    def _check_end(self) -> None:
        """No ended chunk's bytes are left on a disk, and nothing spent is left in memory."""
        self.figures.key_words_used = self.oracle.uses
        for index, end in enumerate(self.ends):
            assert end.machine is not None
            state = end.machine.log.state
            live = {entry.name for chunk in state.live() for entry in chunk.entries}
            left = [name for name in self.disks[index].files if name in state.stored and name not in live]
            if left:
                raise KeyMisuse(f"{end.name} keeps blocks of ended chunks: {left}")
            end.check_memory()
