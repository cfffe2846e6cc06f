"""The data plane's thread in this process, under a load of its own: beside a control thread that computes, and beside
one that opens and closes chunks with synced log records.

One data plane has both ends of a link: what leaves by link 0 arrives on link 1 and is routed to link 0 again. So a
packet makes a hop (UDP in, verify, route, pad and tag, UDP out) for each unit of its TTL, and the thread is kept at
work by a few hundred packets. The thread has one processor, control the other: what one takes from the other is then
the interpreter's lock, the mutex and the disk, not the processor. Time in which the thread could have run and the
processor was another program's does not count (/proc/PID/schedstat); time in which it waits for anything else does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

from appliance.native import blockfile, ffi, lib
from appliance.native.dataplane import ChannelKind, DataPlane
from appliance.native.forward import Way
from appliance.native.keymem import KeyMemory
from appliance.native.link import Channel, Command, Direction, LinkParams
from appliance.network.checksum import internet_checksum
from tests.bench.result import Row, Skipped, turns_of

NODE, AWAY, ORIGIN = IPv4Address("1.1.1.1"), IPv4Address("1.1.1.9"), IPv4Address("1.1.1.8")
TASKS = Path("/proc/self/task")
HOPS = 254
ALIVE = 256
SOCKET_BYTES = 4 << 20
BUFFER_WORDS = 1 << 22  # 32 MiB a direction
CHUNK_BYTES = 1 << 20
CHUNKS = 28  # of one turn: what fits the buffer
AHEAD = 4  # chunks at hand, when control opens them one by one
ENDS = ("out", "in")
RECORD_BYTES = 72
SETTLING_ROUNDS = 25
MOST_DISPLACED = 0.3
TRIES = 20
TARGET = 0.9


def packet() -> tuple[bytes, int]:
    """A QKDNL packet with a KEY segment of one 256-bit key, and its clear length."""
    body = struct.pack("!HH16s", 1, 32, b"\x77" * 16) + bytes(range(32))
    segment = struct.pack("!HHIIBBHHH", 5000, 6000, 1, 0, 16, 0, 0, 40, 0) + body
    head = struct.pack("!BBHIBBH4s4s", 0x45, 0, 20 + len(segment), 0, HOPS + 1, 253, 0, ORIGIN.packed, AWAY.packed)
    checksum = internet_checksum(head)
    return head[:10] + struct.pack("!H", checksum) + head[12:] + segment, 60


def _threads() -> list[int]:
    return [int(task.name) for task in TASKS.iterdir()]


def expand(memory: KeyMemory) -> None:
    """Some key."""
    assert lib.qbb_expand(memory.at(0), memory.length_bytes, ffi.new("uint8_t[]", lib.QBB_SEED_BYTES)) == 0


class Carousel:
    """The data plane and its packets going round."""

    def __init__(self, folder: Path) -> None:
        self.directory_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.plane = DataPlane(NODE)
        self.params = [self._params(master) for master in (True, False)]
        self.links = [self.plane.add_link(params) for params in self.params]
        for link, channel in zip(self.links, _pair(), strict=True):
            self.plane.set_channel(link, ChannelKind.UDP, channel)
            self.plane.set_usable(link, True)
        self.plane.set_table([Way(int(AWAY), 32, self.links[0], 1)])
        self._packet, self._clear = packet()
        self._halves = KeyMemory.map(256)
        expand(self._halves)
        with KeyMemory.map(CHUNK_BYTES) as key:
            expand(key)
            blockfile.write(self.directory_fd, "acknowledging", key.at(0), CHUNK_BYTES)
        self._epoch = 0
        self._ended = 0
        self._injected = 0
        self.plane.start()
        self.thread = next(task for task in _threads() if (TASKS / str(task) / "comm").read_text() == "qbb-dataplane\n")

    @staticmethod
    def _params(master: bool) -> LinkParams:
        return LinkParams(
            link_id=1,
            master=master,
            queue_slots=1024,
            flight_slots=4096,
            window_words=BUFFER_WORDS // 2,
            ack_delay_ns=1_000_000,
            give_up_tries=100,
            buffer_words=BUFFER_WORDS,
        )

    def begin(self) -> None:
        """A new epoch with empty buffers, and no packets."""
        self._epoch += 1
        first, second = self._halves.at(0), self._halves.at(128)
        self.plane.begin(self.links[0], self._epoch, first, second)
        self.plane.begin(self.links[1], self._epoch, second, first)
        self._injected = 0
        self._ended = self._dropped()
        for link, direction in ((self.links[1], Direction.OUT), (self.links[0], Direction.IN)):
            assert self.plane.load(link, direction, self.directory_fd, "acknowledging", CHUNK_BYTES)

    def _dropped(self) -> int:
        return sum(count for name, count in self.plane.network_drops().items() if not name.startswith("punt"))

    def load(self, out: str, into: str, length_bytes: int) -> bool:
        """Block files into the direction in which the packets go, one for each end. False when it is full."""
        if not self.plane.load(self.links[0], Direction.OUT, self.directory_fd, out, length_bytes):
            return False
        assert self.plane.load(self.links[1], Direction.IN, self.directory_fd, into, length_bytes)
        return True

    def keep_going(self) -> None:
        """As many packets on the way as there shall be."""
        alive = self._injected - (self._dropped() - self._ended)
        for _ in range(ALIVE - alive):
            refused = lib.qbb_dataplane_submit(
                self.plane._dp, self.links[0], Channel.NETWORK, Command.DATA, 0, 1, self._packet, len(self._packet),
                self._clear,
            )  # fmt: skip
            if refused:
                return
            self._injected += 1

    def sent(self) -> int:
        return self.plane.stats(self.links[0]).sent_packets

    def displaced_s(self) -> float:
        """How long the thread has stood ready while another program had its processor."""
        return int((TASKS / str(self.thread) / "schedstat").read_text().split()[1]) / 1e9

    def close(self) -> None:
        self.plane.stop()
        self._halves.close()
        os.close(self.directory_fd)


def _pair() -> tuple[int, int]:
    """Descriptors of two UDP sockets connected with each other over loop-back."""
    ends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for end in ends:
        end.bind(("127.0.0.1", 0))
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, 33, SOCKET_BYTES)  # SO_RCVBUFFORCE
    ends[0].connect(ends[1].getsockname())
    ends[1].connect(ends[0].getsockname())
    return ends[0].detach(), ends[1].detach()


@contextlib.contextmanager
def carousel() -> Iterator[Carousel]:
    """On a real disk, with the thread alone on its processor."""
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="qbb-bench-", dir="/var/tmp") as name:
        going = Carousel(Path(name))
        try:
            here, there = sorted(before)[:2]
            os.sched_setaffinity(0, {here})
            os.sched_setaffinity(going.thread, {there})
            yield going
        finally:
            os.sched_setaffinity(0, before)
            going.close()


class Chunks:
    """Key for the packets as block files, a copy for each end, and the two link logs of a relay."""

    def __init__(self, going: Carousel, count: int) -> None:
        self._going, self._count = going, count
        self._opened = self._closed = 0
        self._ends: list[int] = []
        fd = going.directory_fd
        self._logs = [os.open(f"log-{end}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600, dir_fd=fd) for end in ENDS]
        with KeyMemory.map(CHUNK_BYTES) as memory:
            expand(memory)
            for name in self._names(range(count)):
                blockfile.write(fd, name, memory.at(0), CHUNK_BYTES)

    @staticmethod
    def _names(numbers: Iterable[int]) -> list[str]:
        return [f"chunk-{number}-{end}" for number in numbers for end in ENDS]

    def load(self, count: int) -> None:
        for _ in range(count):
            self._load()

    def _load(self) -> None:
        out, into = self._names([self._opened])
        if self._opened < self._count and self._going.load(out, into, CHUNK_BYTES):
            self._opened += 1
            self._ends.append(self._going.plane.progress(self._going.links[0])[0])

    def turn_over(self, destroy: bool) -> None:
        """Opens chunks so that AHEAD are at hand and closes those that are spent, each with a record synced at both
        logs, as the link machines of a relay's two links do. `destroy`: the closed chunks' files too."""
        _, spent, settled, *_ = self._going.plane.progress(self._going.links[0])
        while self._opened < self._count and self._ends[-1] - spent < AHEAD * CHUNK_BYTES // 8:
            self._record(b"open")
            self._load()
        while self._closed < len(self._ends) and self._ends[self._closed] <= settled:
            self._record(b"close")
            self._going.plane.close_below(self._going.links[1], Direction.IN, self._ends[self._closed])
            for name in self._names([self._closed]) if destroy else []:
                blockfile.destroy(self._going.directory_fd, name)
            self._closed += 1

    def _record(self, word: bytes) -> None:
        for log in self._logs:
            blockfile.append_durable(log, word.ljust(RECORD_BYTES, b"."), "a log of the benchmark")

    @property
    def records(self) -> int:
        return len(self._logs) * (self._opened + self._closed)

    def close(self) -> None:
        for log in self._logs:
            os.close(log)
        for name in self._names(range(self._count)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._going.directory_fd)


class TooBusy(Exception):
    """Other programs took so much of the processor that a turn says nothing."""


def _measure(going: Carousel, seconds: float, chunks: Chunks, control: Callable[[], object]) -> float:
    """Packets a second while `control` is called again and again."""
    for _ in range(SETTLING_ROUNDS):
        going.keep_going()
        time.sleep(0.002)
    began, displaced, first = time.monotonic(), going.displaced_s(), going.sent()
    while time.monotonic() < began + seconds:
        control()
        going.keep_going()
    sent, elapsed, displaced = going.sent() - first, time.monotonic() - began, going.displaced_s() - displaced
    assert sent, f"no packet moved: {going.plane.stats(going.links[0])}, {going.plane.network_drops()}"
    if displaced > elapsed * MOST_DISPLACED:
        raise TooBusy
    return sent / (elapsed - displaced)


def _turn(going: Carousel, seconds: float, ahead: int, control: Callable[[Chunks], object]) -> tuple[float, int]:
    """Packets a second of a new epoch with so many chunks loaded at its begin, and log records written meanwhile.
    Raises TooBusy when the machine is so again and again."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(TooBusy):
            return _try_turn(going, seconds, ahead, control)
    return _try_turn(going, seconds, ahead, control)


def _try_turn(going: Carousel, seconds: float, ahead: int, control: Callable[[Chunks], object]) -> tuple[float, int]:
    chunks = Chunks(going, CHUNKS)
    try:
        going.begin()
        chunks.load(ahead)
        before = chunks.records
        rate = _measure(going, seconds, chunks, lambda: control(chunks))
        return rate, chunks.records - before
    finally:
        chunks.close()


def _rest(chunks: Chunks) -> None:
    time.sleep(0.002)


def _compute(chunks: Chunks) -> int:
    """Holds the interpreter's lock without a pause."""
    return sum(number * number for number in range(20_000))


def _turn_over(chunks: Chunks) -> None:
    chunks.turn_over(destroy=False)
    time.sleep(0.001)


def _turn_over_and_destroy(chunks: Chunks) -> None:
    chunks.turn_over(destroy=True)
    time.sleep(0.001)


def beside_busy_control(quick: bool) -> Iterator[Row | Skipped]:
    """The data plane's thread beside a Python thread that computes, against alone."""
    yield from _compared("data plane beside a busy Python thread", CHUNKS, _compute, TARGET, quick)


def with_durable_logs(quick: bool) -> Iterator[Row | Skipped]:
    """The data plane's thread while control opens and closes chunks with synced records, against no control at all."""
    name = "data plane with durable logs"
    yield from _compared(name, AHEAD, _turn_over, TARGET, quick)
    yield from _compared(f"{name}, files of spent chunks wiped", AHEAD, _turn_over_and_destroy, None, quick)


def _compared(
    name: str, ahead: int, control: Callable[[Chunks], object], target: float | None, quick: bool
) -> Iterator[Row | Skipped]:
    if len(os.sched_getaffinity(0)) < 2:
        yield Skipped(name, "it needs two processors")
        return
    pairs, records, seconds = [], 0, 0.1 if quick else 0.3
    with carousel() as going:
        try:
            _turn(going, seconds, CHUNKS, _rest)  # warms up
            for _ in range(3 if quick else 9):
                alone, _ = _turn(going, seconds, CHUNKS, _rest)
                beside, made = _turn(going, seconds, ahead, control)
                pairs.append((beside, alone))
                records += made
        except TooBusy as busy:
            yield Skipped(name, busy.__doc__ or "")
            return
        notes = {"records_synced_per_s": records / seconds / len(pairs), "hash": going.plane.hash_name}
    yield turns_of(name, pairs, "packets/s", "the same thread with control at rest", target=target, notes=notes)
