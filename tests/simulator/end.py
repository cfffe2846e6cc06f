"""One end of a simulated link: the product's own link machine and C engine over simulated disk, wire and time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from appliance.native.link import Delivery, Direction, LinkParams, Refused, Verdict
from appliance.q3p.link import LinkMachine, Mode
from appliance.q3p.linklog import LinkLog
from appliance.q3p.ports import Progress
from appliance.q3p.records import BlockEntry, BlockName
from appliance.q3p.settings import LinkSettings

from .disk import Crash, Disk
from .oracle import KeyMisuse, KeyOracle
from .probe import ProbeEngine

LINK_SECRET = b"the simulated link's hello secret"
CHANNEL_CONTROL, CHANNEL_NETWORK = 0, 1
COMMAND_DATA, COMMAND_CONTROL = 1, 4


def mac(data: bytes) -> bytes:
    return hmac.digest(LINK_SECRET, data, hashlib.sha256)


@dataclass
class OpenedFingerprints:
    """An OFFER's opened fingerprints, compared by the C core."""

    values: bytes
    disk: Disk
    fingerprint: Callable[[bytes, bytes], bytes]

    def matches(self, index: int, hash_key: bytes, entry: BlockEntry) -> bool:
        expected = self.values[16 * index : 16 * index + 16]
        return hmac.compare_digest(expected, self.fingerprint(hash_key, self.disk.files[entry.name]))

    def release(self) -> None:
        self.values = b""


class SimulatedEnd:
    """A node's end. ``transmit`` puts a packet on the wire; ``deliver`` takes a session key packet that arrived;
    ``late`` says for how many ns what waits is not sealed yet."""

    def __init__(
        self,
        name: str,
        settings: LinkSettings,
        params: LinkParams,
        engine: ProbeEngine,
        disk: Disk,
        oracle: KeyOracle,
        random: Callable[[int], bytes],
        transmit: Callable[[bytes], None],
        deliver: Callable[[bytes], None],
        effect: Callable[[], None],
        trace: Callable[..., None],
        keep_records: int,
        late: Callable[[], int] = lambda: 0,
    ) -> None:
        self.name, self.settings, self.params = name, settings, params
        self.engine, self.disk, self.oracle = engine, disk, oracle
        self.random, self.transmit, self.deliver, self.effect, self.trace = random, transmit, deliver, effect, trace
        self.keep_records, self.late = keep_records, late
        self.machine: LinkMachine | None = None
        self.now_ns = self.seals_ns = 0
        self.usable = False
        self.engine.reset(params)
        self.gave_up = False  # in an earlier life: a packet, by SKIP

    # --- life --------------------------------------------------------------------------------------------------------

    def boot(self, now_ns: int) -> None:
        """Start the program on what the disk holds."""
        self.now_ns = now_ns
        self.gave_up = self.gave_up or self.engine.skipped_packets() > 0
        self.engine.reset(self.params)
        self.usable = False
        self.seals_ns = 0
        self.disk.effect = self.effect
        try:
            log = LinkLog(self.disk, self.keep_records)
            self.machine = LinkMachine(self.settings, log, self.disk, self, self, mac, self.random, self._report)
            self.machine.start(now_ns)
            self.pump()
        except Crash:
            self.machine = None
            raise

    def _report(self, event: str, **fields: Any) -> None:
        self.trace(self.name, event, fields)

    def run(self, now_ns: int, action: Callable[[LinkMachine], None]) -> None:
        """One input to a living end; a Crash anywhere inside kills it."""
        if self.machine is None:
            return
        self.now_ns = now_ns
        try:
            action(self.machine)
            self.pump()
        except Crash:
            self.machine = None
            raise

    def packet(self, now_ns: int, packet: bytes) -> None:
        self.run(now_ns, lambda machine: self._packet(machine, packet))

    def _packet(self, machine: LinkMachine, packet: bytes) -> None:
        words = self.engine.in_words()
        verdict, delivery = self.engine.receive(self.now_ns, packet)
        if verdict in (Verdict.DELIVER, Verdict.ABSORBED):
            self._note("open", packet)
        elif self.engine.take_notes() or self.engine.in_words() != words:
            raise KeyMisuse(f"{self.name}: a packet failed and consumed key ({verdict.name})")
        if verdict is Verdict.HELLO:
            machine.receive_hello(self.now_ns, packet)
        elif delivery is not None:
            self.effect()
            if delivery.channel == CHANNEL_CONTROL:
                self._control(machine, delivery)
            else:
                self.deliver(delivery.payload)

    def _control(self, machine: LinkMachine, delivery: Delivery) -> None:
        clear, secret = delivery.payload[: delivery.clear], delivery.payload[delivery.clear :]
        fingerprints = OpenedFingerprints(secret, self.disk, self.engine.fingerprint) if secret else None
        machine.receive_control(self.now_ns, clear, fingerprints)

    def take_block(self, machine: LinkMachine, entry: BlockEntry, data: bytes) -> None:
        """A device's block, as the data plane takes it (services/linkunit.py). Raises OSError."""
        if machine.custody.name_is_used(entry.name):
            self.trace(self.name, "block-refused", {"block": entry.name})
        elif self.disk.write_block(entry, data, machine.custody.in_session):
            machine.block_arrived(self.now_ns, entry)

    def pump(self) -> None:
        """Send everything that may leave now. Sealing is a thread's work, which may come late: meanwhile more is
        queued, and the machine goes on."""
        if self.now_ns < self.seals_ns:
            return
        due_ns = self.engine.deadline()
        if due_ns is not None and due_ns <= self.now_ns and (late_ns := self.late()):
            self.seals_ns = self.now_ns + late_ns
            return
        while (packet := self.engine.poll(self.now_ns)) is not None:
            self._note("seal", packet)
            self.effect()
            self.transmit(packet)

    def deadline_ns(self) -> int | None:
        if self.machine is None:
            return None
        engine = self.engine.deadline()
        machine = self.machine.deadline_ns()
        return machine if engine is None else min(max(engine, self.seals_ns), machine)

    def send_key_packet(self, now_ns: int, packet: bytes, clear: int) -> bool:
        """Session key for the peer, if the link carries traffic."""
        if self.machine is None or not self.usable:
            return False
        try:
            self.engine.submit(CHANNEL_NETWORK, COMMAND_DATA, 3, True, packet, clear)
        except Refused:
            return False
        self.run(now_ns, lambda machine: None)
        return True

    # --- the oracle's view -------------------------------------------------------------------------------------------

    def _note(self, doing: str, packet: bytes) -> None:
        reliable = packet[4:8] != bytes(4)  # it has a message number
        for use, did, key in self.engine.take_notes():
            if did == "compare":
                continue
            if did != doing:
                raise KeyMisuse(f"{self.name}: key used as {use} to {did} while it should {doing}")
            self.oracle.used(self.name, use, doing, key, packet, reliable)

    # --- ports -------------------------------------------------------------------------------------------------------

    def begin(self, epoch: int, block: BlockName, offset: int, master: bool) -> None:
        self.effect()
        slot = self.disk.files[block][offset : offset + 256]
        halves = (slot[:128], slot[128:])
        out, into = halves if master else halves[::-1]
        self.engine.begin(epoch, out, into)
        assert self.machine is not None
        for (use, doing, key), half in zip(self.engine.take_notes(), (master, not master), strict=True):
            self.oracle.used(self.name, use, doing, key, (self.machine.session, "master" if half else "slave"))

    def end(self) -> None:
        self.engine.end()

    def load(self, out: bool, entry: BlockEntry) -> bool:
        data = self.disk.files.get(entry.name)
        if data is None:
            raise FileNotFoundError(2, f"block {entry.name}")
        return self.engine.load(Direction.OUT if out else Direction.IN, data)

    def close_below(self, out: bool, word: int) -> None:
        self.engine.close_below(Direction.OUT if out else Direction.IN, word)

    def allow(self, priority: int) -> None:
        self.engine.allow(priority)

    def set_usable(self, usable: bool) -> None:
        self.usable = usable

    def submit(self, priority: int, payload: bytes) -> bool:
        return self._queue(priority, payload, len(payload))

    def _queue(self, priority: int, payload: bytes, clear: int) -> bool:
        try:
            self.engine.submit(CHANNEL_CONTROL, COMMAND_CONTROL, priority, True, payload, clear)
        except Refused:
            return False
        return True

    def submit_offer(self, priority: int, payload: bytes, hash_key: bytes, blocks: Sequence[BlockEntry]) -> bool:
        values = b"".join(self.engine.fingerprint(hash_key, self.disk.files[entry.name]) for entry in blocks)
        return self._queue(priority, payload + values, len(payload))

    def progress(self) -> Progress:
        return self.engine.progress()

    def send(self, packet: bytes) -> None:
        self.effect()
        self.transmit(packet)

    def check_memory(self) -> None:
        """Nothing spent, or of an older epoch, is left in the key buffers."""
        progress = self.engine.progress()
        left = self.engine.unwiped_words(Direction.OUT, [(progress.out_spent, progress.out_loaded)])
        if left:
            raise KeyMisuse(f"{self.name} keeps {left} spent words in its out buffer")

    @property
    def up(self) -> bool:
        return self.machine is not None and self.machine.mode is Mode.UP

    def has_given_up(self) -> bool:
        """Ever, a packet, by SKIP: its words need no opening."""
        return self.gave_up or self.engine.skipped_packets() > 0

    def chunks_open(self) -> bool:
        """Up, with words of opened chunks to spend or to open packets with."""
        machine = self.machine
        return machine is not None and machine.mode is Mode.UP and bool(machine.log.state.opened)
