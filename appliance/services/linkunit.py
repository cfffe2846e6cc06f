"""One link of the running data plane: the machine's ports on the real store, C engine and channel, and its timer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appliance.config import LinkConfig, NodeConfig
from appliance.native import blockfile, linksecret
from appliance.native.dataplane import DataPlane, Fingerprints, FingerprintShelf, Punt
from appliance.native.hmac import hmac_sha256
from appliance.native.keymem import KeyMemory
from appliance.native.link import Direction, LinkParams
from appliance.q3p.link import ENDED, LinkMachine, Mode
from appliance.q3p.linklog import LinkLog
from appliance.q3p.ports import Progress
from appliance.q3p.records import SLOT_BYTES, BlockEntry, BlockName, RecordError
from appliance.q3p.reserves import Marks
from appliance.q3p.settings import SECOND_NS, LinkSettings
from appliance.services import journal
from appliance.services.linkstore import LinkStore, file_name
from appliance.services.linkwatch import LinkWatch
from appliance.services.runtime import Loop, Timer

BUSY_TICK_S = 0.01
IDLE_TICK_S = 0.25
BUSY_WORDS = 64  # words spent between two ticks that make a link busy
RATE_SPAN_S = 10.0
REFUSED_SHOWN_S = 20.0  # a refused hello explains a silence for so long: two of the longest hello intervals
REFUSED_NOTE_S = 60.0
RECOVERY_S = 30.0  # between attempts to go on after the disk failed
REFUSED_QUIETLY = (errno.EDQUOT, errno.ESHUTDOWN)  # of blocks: the store has its fill; the link is stopped, as was told
CONTROL_CHANNEL, CONTROL_COMMAND = 0, 4
ALARM_WORDS = {"qber": "error rate above the limit", "no-light": "no light", "stalled": "no exchange with the far end"}


def ns(seconds: float) -> int:
    return int(seconds * SECOND_NS)


def link_id(node: NodeConfig, link: LinkConfig) -> int:
    low, high = sorted((int(node.address), int(link.peer)))
    return low << 32 | high


def engine_params(node: NodeConfig, link: LinkConfig) -> LinkParams:
    return LinkParams(
        link_id=link_id(node, link),
        master=node.address < link.peer,
        queue_slots=link.queue_packets,
        flight_slots=link.flight_packets,
        window_words=link.window_bytes // 8,
        reserve_words=16,
        ack_delay_ns=ns(link.ack_delay_s),
        rto_ns=ns(link.rto_s),
        rto_max_ns=ns(link.rto_max_s),
        give_up_tries=link.give_up_tries,
        buffer_words=link.buffer_bytes // 8,
    )


def machine_settings(node: NodeConfig, link: LinkConfig) -> LinkSettings:
    return LinkSettings(
        link_id=link_id(node, link),
        master=node.address < link.peer,
        chunk_bytes=link.chunk_bytes,
        marks=Marks(link.store_mark_bytes, link.low_mark_bytes, link.high_mark_bytes),
        keepalive_ns=ns(link.keepalive_s),
        dead_ns=ns(link.dead_after_s),
    )


class NoLog:
    """Stands in for a log that cannot be read; nothing is ever written to it."""

    def read(self) -> bytes:
        return b""

    def append(self, data: bytes) -> None:
        raise OSError(errno.EROFS, "the key log is quarantined")

    def replace(self, data: bytes) -> None:
        self.append(data)

    def truncate(self, length: int) -> None:
        self.append(b"")


@dataclass
class DeviceState:
    """What a device last said of itself."""

    status: dict[str, Any]
    alarms: set[str] = field(default_factory=set)
    connected: bool = False

    @property
    def alarm(self) -> str | None:
        """All causes that are on, in words; None when there is none."""
        return ", ".join(sorted(self.alarms)) or None


class BlockFingerprints:
    """The machine's view of an offer's fingerprints."""

    def __init__(self, kept: Fingerprints) -> None:
        self._kept = kept

    def matches(self, index: int, hash_key: bytes, entry: BlockEntry) -> bool:
        return self._kept.compare(index, hash_key, file_name(entry.name), entry.length_bytes)

    def release(self) -> None:
        self._kept.release()


class LinkUnit:
    """Everything of one link outside the C thread. ``changed`` is called when the keys service should hear of it."""

    def __init__(
        self,
        loop: Loop,
        plane: DataPlane,
        node: NodeConfig,
        config: LinkConfig,
        secret: Path,
        changed: Callable[[], None],
    ) -> None:
        self.config, self.changed = config, changed
        self._loop, self._plane, self._node = loop, plane, node
        self.settings = machine_settings(node, config)
        # under every hello's HMAC, so that ends that are configured differently never get further
        self._common_settings = f"{config.hash} {config.chunk_bytes} {config.window_bytes} ".encode()
        self._key, self._block, self._block_bytes = linksecret.read(secret)
        self.store = LinkStore(node.link_state(config.name))
        self.index = plane.add_link(engine_params(node, config))
        self._fingerprints = FingerprintShelf()
        self._slot = KeyMemory.map(SLOT_BYTES)
        self.devices = {device.name: DeviceState({}) for device in config.devices}
        self._numbers = {name: number for number, name in enumerate(sorted(self.devices))}
        self._arrivals: list[tuple[float, int]] = []
        self._timer: Timer | None = None
        self._recovery: Timer | None = None
        self._spent_words = 0
        self._no_room = ""  # why the store took no block last
        self._refused = ""  # why a hello was refused last
        self._refused_s = self._noted_s = -REFUSED_NOTE_S
        self._used_names: dict[str, str] = {}  # by device: why its last block was refused for good
        self._used_name_noted_s = -REFUSED_NOTE_S
        self._displaced, self._displaced_noted_s = 0, -REFUSED_NOTE_S
        self._watch = LinkWatch(self._note)
        self.machine = self._boot_or_fail()

    def _boot_or_fail(self) -> LinkMachine:
        """A disk that is full or broken stops this link alone, and only until it takes the log."""
        try:
            return self._boot()
        except OSError as error:
            machine = self._machine(LinkLog(NoLog()))
            machine.fail(f"store: {error.strerror or error}")
            return machine

    def _boot(self) -> LinkMachine:
        """Read the log, load the link secret's block if it is new, and build the machine. Raises OSError."""
        self._refresh()
        try:
            log = LinkLog(self.store)
        except RecordError as error:
            machine = self._machine(LinkLog(NoLog()))
            machine.quarantine(f"the key log makes no sense: {error}")
            return machine
        if log.torn_bytes:
            self._note("log-torn", cause=f"a torn record of {log.torn_bytes} bytes was cut")
        if cause := self._barred():
            machine = self._machine(log)
            machine.bar(cause)
            return machine
        if self.store.destroy_shared():
            self._note("secret-destroyed", cause="what was left of an earlier secret was another link's key too")
        self.store.load_bootstrap(self._key, self._block, self._block_bytes, log.state.stored)
        return self._machine(log)

    def _refresh(self) -> None:
        """On a disk that is full nothing else would make room: the link has to be up for its blocks to expire."""
        try:
            self.store.refresh()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            destroyed = self.store.make_room()
            if not destroyed:
                raise
            self._note(
                "block-discarded", cause=f"{destroyed} blocks, to make room for the key log on a disk that is full"
            )
            self.store.refresh()

    def _barred(self) -> str:
        """Why the link may not run with its secret, for people; empty when it may."""
        others = self.store.taken_by(self._key)
        if not others:
            return ""
        present = [link.name for link in self._node.links if link.name in others]
        if not present and self.store.has_loaded(self._key):
            return ""  # renamed under an earlier version, which loaded it twice: what is left of it will go
        back = "" if present else ", or give the link its old name back"
        return (
            f"its link secret was loaded for link {(present or others)[0]}, and no key is used twice: make a new one "
            f"with qbb link secret for link {self.config.name}, at both ends{back}"
        )

    def _machine(self, log: LinkLog) -> LinkMachine:
        return LinkMachine(self.settings, log, self.store, self, self, self._mac, os.urandom, self._report)

    def start(self) -> None:
        self._run(lambda now: self.machine.start(now))

    def _recover(self) -> None:
        """After a failed write or sync: begin anew as after a crash. Until the disk takes that, the link stays down."""
        self._recovery = None
        if self.machine.mode is not Mode.FAILED:
            return  # an operator discarded the store
        try:
            machine = self._boot()
        except OSError:
            self._schedule()
            return
        self._replace_machine(machine)

    def close(self) -> None:
        for timer in (self._timer, self._recovery):
            if timer is not None:
                timer.cancel()
        self.store.close()
        for memory in (self._key, self._block, self._slot):
            memory.close()

    # --- inputs ------------------------------------------------------------------------------------------------------

    def hello(self, packet: bytes) -> None:
        before = dict(self.machine.rejected)
        self._run(lambda now: self.machine.receive_hello(now, packet))
        for why, count in self.machine.rejected.items():
            if count > before.get(why, 0):
                self._hello_refused(why)

    def _hello_refused(self, why: str) -> None:
        """Anybody can send a hello: it is written once in a while, and shown only where the link does not come up."""
        now = self._loop.now()
        self._refused, self._refused_s = why, now
        if now - self._noted_s >= REFUSED_NOTE_S:
            self._noted_s = now
            self._note("link-hello-refused", cause=why)

    def control(self, punt: Punt) -> None:
        kept = self._fingerprints.put(punt.pointer, punt.secret_bytes, self.store.blocks_fd)
        fingerprints = BlockFingerprints(kept) if kept is not None else None
        self._run(lambda now: self.machine.receive_control(now, punt.clear, fingerprints))

    def block(self, device: str, block_id: int, length_bytes: int, source_fd: int) -> None:
        """A device's block: durable when this returns. Raises ValueError, OSError (REFUSED_QUIETLY: for reasons told
        elsewhere)."""
        largest = self.config.buffer_bytes // 4
        if length_bytes <= 0 or length_bytes % 8 or length_bytes > largest:
            raise ValueError(f"{length_bytes} bytes: a multiple of 8 up to {largest} (buffer_bytes / 4) is right")
        entry = BlockEntry(BlockName(self._numbers[device], block_id), length_bytes)
        if self.machine.mode in ENDED:  # it counts no blocks: they would come until the disk is full, for all links
            raise OSError(errno.ESHUTDOWN, f"the link is stopped: {self.machine.cause}")
        custody = self.machine.custody
        if custody.name_is_used(entry.name):
            raise self._used_name(device, entry.name, "was used before, for a block that is spent or was given up")
        if not custody.has(entry.name) and not self._has_room(length_bytes):
            raise OSError(errno.EDQUOT, "it has its fill (store_max_bytes)")
        if not self._accept(device, entry, source_fd):
            return
        self._used_names.pop(device, None)
        self._arrivals.append((self._loop.now(), length_bytes))
        self._run(lambda now: self.machine.block_arrived(now, entry))

    def _has_room(self, length_bytes: int) -> bool:
        """Within the store's fill; it is made where that is blocks that the peer never got."""
        custody, most = self.machine.custody, self.config.store_max_bytes
        if custody.kept_bytes() + length_bytes <= most:
            return True
        before = custody.displaced
        self._run(lambda now: self.machine.make_room(now, length_bytes, most))
        self._note_displaced(custody.displaced - before)
        return self.machine.mode not in ENDED and custody.kept_bytes() + length_bytes <= most

    def _note_displaced(self, blocks: int) -> None:
        """From now on every block displaces one: people are told once in a while."""
        self._displaced += blocks
        now = self._loop.now()
        if self._displaced and now - self._displaced_noted_s >= REFUSED_NOTE_S:
            cause = f"{self._displaced} blocks that the peer never got, to make room for younger ones"
            self._displaced, self._displaced_noted_s = 0, now
            self._note("block-discarded", cause=cause)

    def _accept(self, device: str, entry: BlockEntry, source_fd: int) -> bool:
        """False when it was here already."""
        try:
            new = self.store.accept(entry, source_fd, settled=self.machine.custody.in_session)
        except OSError as error:
            if error.errno == errno.EBADMSG:
                raise ValueError("it holds zeros where key is due: its memory was wiped") from None
            if error.errno == errno.ENOTUNIQ:
                raise self._used_name(device, entry.name, "stands for another block, which is here") from None
            self._no_room = error.strerror or str(error)
            raise
        self._no_room = ""
        return new

    def _used_name(self, device: str, name: BlockName, why: str) -> ValueError:
        """A device that counts anew gets no block in, perhaps for a long time: people are told once in a while."""
        self._used_names[device] = why
        now = self._loop.now()
        if now - self._used_name_noted_s >= REFUSED_NOTE_S:
            self._used_name_noted_s = now
            cause = f"device {device}: the name of block {name.block_id} {why}"
            self._note("block-name-used", cause=cause, device=device, block=str(name))
        return ValueError(f"its name {why}")

    def device_connected(self, device: str, connected: bool) -> None:
        """A device came or went; one that comes tells all alarms that are on."""
        self.devices[device].connected = connected
        if connected:
            self.devices[device].alarms.clear()
            self._tell_alarm(device)

    def alarm(self, device: str, cause: str, on: bool) -> None:
        """One cause of a device's alarm goes on or off."""
        causes = self.devices[device].alarms
        if on:
            causes.add(cause)
        else:
            causes.discard(cause)
        self._tell_alarm(device)

    def _tell_alarm(self, device: str) -> None:
        """One that is configured to be ignored is shown and does no more."""
        ignored = next(d.on_alarm for d in self.config.devices if d.name == device) == "ignore"
        words = ", ".join(ALARM_WORDS.get(cause, cause) for cause in sorted(self.devices[device].alarms))
        cause = None if ignored else words or None
        self._run(lambda now: self.machine.alarm(now, device, cause))

    def tick(self) -> None:
        self._run(lambda now: self.machine.tick(now))

    def _run(self, action: Callable[[int], None]) -> None:
        action(ns(self._loop.now()))
        custody = self.machine.custody
        self._watch.store(custody.reserves.state, custody.available_bytes())
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.machine.mode is Mode.FAILED:
            if self._recovery is None:  # what goes on meanwhile, such as blocks that come, must not put it off
                self._recovery = self._loop.after(RECOVERY_S, self._recover)
            return
        wait = self.machine.deadline_ns() / SECOND_NS - self._loop.now()
        if self.machine.mode is Mode.UP:
            spent = self.progress().out_spent
            wait = min(wait, BUSY_TICK_S if spent - self._spent_words > BUSY_WORDS else IDLE_TICK_S)
            self._spent_words = spent
        self._timer = self._loop.after(min(max(wait, 0.001), 3600.0), self.tick)

    def discard(self) -> int:
        """The operator gives this store up (after a quarantine or a failure). Returns bytes destroyed."""
        self._plane.end(self.index)
        self._plane.set_usable(self.index, False)
        discarded = self.store.discard(self._key)
        self._replace_machine(self._boot_or_fail())
        return discarded

    def _replace_machine(self, machine: LinkMachine) -> None:
        """Devices tell an alarm when it changes: the new machine hears from us what stands."""
        self.machine = machine
        for device in self.devices:
            self._tell_alarm(device)
        self.start()

    # --- the machine's ports -----------------------------------------------------------------------------------------

    def _mac(self, data: bytes) -> bytes:
        return hmac_sha256(self._key.at(0), linksecret.KEY_BYTES, self._common_settings + data)

    def send(self, packet: bytes) -> None:
        self._plane.send_hello(self.index, packet)

    def begin(self, epoch: int, block: BlockName, offset: int, master: bool) -> None:
        blockfile.read_at(self.store.blocks_fd, file_name(block), offset, self._slot.at(0), SLOT_BYTES)
        first, second = self._slot.at(0), self._slot.at(SLOT_BYTES // 2)
        self._plane.begin(self.index, epoch, *((first, second) if master else (second, first)))
        self._slot.wipe()

    def end(self) -> None:
        self._plane.end(self.index)

    def load(self, out: bool, entry: BlockEntry) -> bool:
        direction = Direction.OUT if out else Direction.IN
        return self._plane.load(self.index, direction, self.store.blocks_fd, file_name(entry.name), entry.length_bytes)

    def close_below(self, out: bool, word: int) -> None:
        self._plane.close_below(self.index, Direction.OUT if out else Direction.IN, word)

    def allow(self, priority: int) -> None:
        self._plane.allow(self.index, priority)

    def set_usable(self, usable: bool) -> None:
        self._plane.set_usable(self.index, usable)
        self.changed()

    def submit(self, priority: int, payload: bytes) -> bool:
        return self._plane.submit(self.index, CONTROL_CHANNEL, CONTROL_COMMAND, priority, payload)

    def submit_offer(self, priority: int, payload: bytes, hash_key: bytes, blocks: Sequence[BlockEntry]) -> bool:
        named = [(file_name(entry.name), entry.length_bytes) for entry in blocks]
        return self._plane.submit_offer(self.index, priority, payload, hash_key, self.store.blocks_fd, named)

    def progress(self) -> Progress:
        return Progress(*self._plane.progress(self.index))

    # --- for people --------------------------------------------------------------------------------------------------

    def _note(self, event: str, **fields: Any) -> None:
        cause = str(fields.get("cause", ""))
        text = f"link {self.config.name} to {self.config.peer}" + (f": {cause}" if cause else "")
        journal.write(event, text, link=self.config.name, **fields)

    def _report(self, event: str, **fields: Any) -> None:
        self._note(event, **fields)
        if event in ("link-up", "link-down"):
            self.changed()

    def look(self) -> None:
        """To be called now and then."""
        wrong = sum(n for verdict, n in self._plane.stats(self.index).verdicts.items() if verdict.name == "TAG")
        self._watch.tags(self._loop.now(), wrong)

    def cause(self) -> str:
        """Why the link carries no keys; empty when it does."""
        cause = self.machine.why_unusable()
        recent = self._loop.now() - self._refused_s < REFUSED_SHOWN_S
        return f"{cause}; refused: {self._refused}" if cause and recent else cause

    def key_rate_bps(self) -> float:
        """Key that the devices delivered in the last seconds, in bit/s."""
        since = self._loop.now() - RATE_SPAN_S
        self._arrivals = [(at, size) for at, size in self._arrivals if at >= since]
        return 8 * sum(size for _, size in self._arrivals) / RATE_SPAN_S

    def status(self) -> dict[str, Any]:
        """See services/control.py."""
        stats = self._plane.stats(self.index)
        machine = self.machine.status()
        state = "quarantine" if self.machine.mode is Mode.QUARANTINE else machine["state"]
        return {
            "name": self.config.name,
            "peer": str(self.config.peer),
            **machine,
            "cause": self.cause(),
            "no_room": self._no_room,
            "used_names": "; ".join(f"device {name}: it {why}" for name, why in sorted(self._used_names.items())),
            "state": state,
            "out_bytes": 8 * stats.out_words,
            "in_bytes": 8 * stats.in_words,
            "key_rate_bps": self.key_rate_bps(),
            "epoch": self.machine.log.length if self.machine.mode is Mode.UP else 0,
            "devices": [
                {
                    "name": name,
                    "state": "connected" if device.connected else "absent",
                    "qber": device.status.get("qber"),
                    "rate_bps": device.status.get("rate_bps"),
                    "alarm": device.alarm,
                }
                for name, device in sorted(self.devices.items())
            ],
            "counters": {verdict.name.lower(): n for verdict, n in stats.verdicts.items() if n},
            "spent_bytes": {cause.name.lower(): 8 * words for cause, words in stats.spent_words.items()},
            "sent_packets": stats.sent_packets,
            "received_packets": stats.received_packets,
            "resent_packets": stats.resent_packets,
            "delivered_key_bytes": stats.delivered_key_bytes,
        }
