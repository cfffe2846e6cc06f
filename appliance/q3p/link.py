"""The link machine: hello, sync and up (rules in ``appliance/q3p/__init__.py``).

One object is one end of one link. It is pure: messages, blocks and time come in through its methods; everything it does
goes out through the ports, in order. What happens to key while the link is up is ``custody``'s part.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from appliance.q3p.custody import Custody
from appliance.q3p.linklog import LinkLog
from appliance.q3p.messages import (
    MAX_MISSING,
    MAX_PICKUP,
    NONCE_BYTES,
    Challenge,
    Confirm,
    Control,
    Hello,
    HelloRecords,
    Init,
    LogStateMessage,
    Mac,
    MessageError,
    Ping,
    Response,
    fitting,
    open_hello,
    pack_control,
    seal_hello,
    unpack_control,
)
from appliance.q3p.ports import BlockStore, Engine, Fingerprints, Wire
from appliance.q3p.records import (
    MAX_CHUNKS_IN_RECORD,
    BlockEntry,
    Epoch,
    Record,
    RecordError,
    SessionId,
    Store,
    Void,
    encode,
)
from appliance.q3p.reserves import ALL, PRIORITY_PING, PRIORITY_STORE
from appliance.q3p.settings import SECOND_NS, LinkSettings

NEVER = 2**63 - 1
NO_KEY_LEFT = "no key left for an epoch: load a link secret"


class Mode(Enum):
    """INIT asks for a session, SYNC makes the logs equal, UP carries packets. The others end the machine's life."""

    INIT = "hello"
    SYNC = "sync"
    UP = "up"
    QUARANTINE = "quarantine"
    FAILED = "failed"
    BARRED = "down"


ENDED = {Mode.QUARANTINE: "link-quarantined", Mode.FAILED: "store-sync-failed", Mode.BARRED: "link-barred"}  # told so
Report = Callable[..., None]


class LinkMachine:
    """One end of a link.

    ``report(event, **fields)`` tells operators; it must not call back. Any OSError from a port ends in FAILED:
    nothing is spent any more, and only a restart reads the disk again (a failed sync is never passed over).
    """

    def __init__(
        self,
        settings: LinkSettings,
        log: LinkLog,
        store: BlockStore,
        engine: Engine,
        wire: Wire,
        mac: Mac,
        random: Callable[[int], bytes],
        report: Report,
    ) -> None:
        self.settings = settings
        self.log = log
        self.mode = Mode.INIT
        self.cause = "starting"
        self.usable = False
        self.alarms: dict[str, str] = {}
        self.rejected: dict[str, int] = {}
        self._engine, self._wire, self._mac, self._random, self._report = engine, wire, mac, random, report
        self.custody = Custody(settings, log, store, engine, random, report, self._write)
        self.session: SessionId | None = None
        self._nonce: bytes | None = None
        self._challenge = random(NONCE_BYTES)
        self._peer_length = -1
        self._peer_durable = 0  # records that the peer had when it was last heard of
        self._peer_missing: tuple[int, ...] | None = None
        self._confirm_sent = False
        self._now_ns = 0
        self._mode_since_ns = 0
        self._next_send_ns = 0
        self._resends = 0
        self._epoch_attempts = 0
        self._next_epoch_ns = 0
        self._next_ping_ns = 0
        self._starved_limit_ns = settings.starved_ns

    # --- what comes in -----------------------------------------------------------------------------------------------

    def start(self, now_ns: int) -> None:
        """Rule 1: everything volatile is forgotten; ask for a session. Nothing is written or spent."""
        self._guard(now_ns, self._start)

    def receive_hello(self, now_ns: int, packet: bytes) -> None:
        """An unsealed packet from the wire."""
        self._guard(now_ns, lambda: self._hello(packet))

    def receive_control(self, now_ns: int, payload: bytes, fingerprints: Fingerprints | None = None) -> None:
        """The clear part of a verified packet of channel 0; ``fingerprints`` is an OFFER's padded part."""
        self._guard(now_ns, lambda: self._control(payload, fingerprints))

    def quarantine(self, cause: str) -> None:
        """The store cannot be trusted: nothing is spent from it any more."""
        self._stop(Mode.QUARANTINE, cause)

    def bar(self, cause: str) -> None:
        """The link may not run as it is configured. Its store is as good as it was."""
        self._stop(Mode.BARRED, cause)

    def fail(self, cause: str) -> None:
        """The store could not be read or written before there was a log."""
        self._stop(Mode.FAILED, cause)

    def block_arrived(self, now_ns: int, entry: BlockEntry) -> None:
        """A device block is durable in the store: unsettled, unless custody is in session."""
        self._guard(now_ns, lambda: self.custody.block_arrived(self._now_ns, entry))

    def make_room(self, now_ns: int, length_bytes: int, most_bytes: int) -> None:
        """A block is to come, and no more than this may be kept."""
        self._guard(now_ns, lambda: self.custody.make_room(now_ns, length_bytes, most_bytes))

    def alarm(self, now_ns: int, device: str, cause: str | None) -> None:
        """A device's alarm goes on (cause) or off (None)."""
        if cause is None:
            self.alarms.pop(device, None)
        else:
            self.alarms[device] = cause
        self._guard(now_ns, lambda: None)

    def tick(self, now_ns: int) -> None:
        """Time has passed; call at ``deadline`` at the latest, and when the engine made progress."""
        self._guard(now_ns, self._tick)

    def deadline_ns(self) -> int:
        """When ``tick`` is due next."""
        if self.mode in ENDED:
            return NEVER
        return min(self._next_send_ns, self._next_ping_ns)

    def _guard(self, now_ns: int, action: Callable[[], None]) -> None:
        """Run one input; turn faults into states, whatever the input was."""
        if self.mode in ENDED:
            return
        self._now_ns = now_ns
        try:
            action()
            if self.mode is Mode.UP:
                self.custody.manage(now_ns)
                if self.custody.broken:
                    self._enter_init("an open chunk's bytes are missing here")
            self._update_usable()
        except MessageError as error:
            self.rejected[str(error)[:90]] = self.rejected.get(str(error)[:90], 0) + 1
            self._update_usable()
        except RecordError as error:
            self._stop(Mode.QUARANTINE, f"the peer's log contradicts ours: {error}")
        except OSError as error:
            self._stop(Mode.FAILED, f"store: {error.strerror or error}")

    def _stop(self, mode: Mode, cause: str) -> None:
        self.mode, self.cause = mode, cause
        self.session = self._nonce = None
        self._engine.end()
        self._engine.set_usable(False)
        self.usable = False
        self.custody.session_ended()  # fingerprints in key memory have few places, and nobody would free them
        self._report(ENDED[mode], cause=cause)

    # --- hello -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.custody.sweep()
        self._enter_init("waiting for the peer")

    def _enter_init(self, cause: str) -> None:
        self.mode, self.cause, self.session = Mode.INIT, cause, None
        self._engine.end()
        self.custody.session_ended()
        self._nonce = self._random(NONCE_BYTES)
        self._mode_since_ns = self._now_ns
        self._resends = 0
        self._next_ping_ns = NEVER
        self._send_init()

    def _send_init(self) -> None:
        assert self._nonce is not None
        self._send(Init(self._nonce))
        settings = self.settings
        wait = min(settings.hello_interval_ns << min(self._resends, 10), settings.hello_interval_max_ns)
        self._resends += 1
        self._next_send_ns = self._now_ns + wait

    def _send(self, message: Hello) -> None:
        self._wire.send(seal_hello(message, self.settings.link_id, self.settings.master, self._mac))

    def _hello(self, packet: bytes) -> None:
        message = open_hello(packet, self.settings.link_id, not self.settings.master, self._mac)
        match message:
            case Init():
                self._receive_init(message.nonce)
            case Challenge():
                # rule 3: a CHALLENGE answers only my own outstanding nonce and is never taken for an INIT
                if message.session.nonce == self._nonce:
                    self._send(Response(message.session))
            case Response():
                if message.session.challenge == self._challenge:
                    self._enter_sync(message.session)
            case LogStateMessage():
                self._receive_logstate(message)
            case HelloRecords():
                self._receive_records(message)

    def _receive_init(self, nonce: bytes) -> None:
        """Rule 2: no state changes, so a replayed INIT leaves an up link untouched."""
        if self.session is not None and nonce in self.session:
            self._send_logstate(reply_wanted=False)
        elif self.mode is Mode.INIT and self.settings.master:
            return  # both ask: the slave answers ours
        else:
            self._send(Challenge(SessionId(nonce, self._challenge)))

    def _enter_sync(self, session: SessionId) -> None:
        """Rules 4 and 5: the old session goes first; only then is the log's state read and told."""
        was_up = self.mode is Mode.UP
        self._engine.end()
        self.mode, self.cause, self.session, self._nonce = Mode.SYNC, "comparing logs", session, None
        self._challenge = self._random(NONCE_BYTES)
        self._peer_length, self._peer_missing, self._confirm_sent = -1, None, False
        self._mode_since_ns = self._now_ns
        self._resends = 0
        self._next_ping_ns = NEVER
        if was_up:
            # A slave has nothing that the master had not durable before.
            self._peer_durable = self.custody.peer_length if self.settings.master else self.log.length
        self.custody.session_ended()
        if was_up:
            self._report("session-replaced")
        self._send_logstate(reply_wanted=True)
        self._next_send_ns = self._now_ns + self.settings.sync_resend_ns

    # --- sync --------------------------------------------------------------------------------------------------------

    def _send_logstate(self, reply_wanted: bool) -> None:
        assert self.session is not None
        missing = tuple(self.custody.missing()[:MAX_MISSING])
        pickup = self.custody.newest_pickup(MAX_PICKUP) if self.settings.master else ()
        self._send(LogStateMessage(self.session, self.log.length, self.log.digest, reply_wanted, missing, pickup))

    def _receive_logstate(self, message: LogStateMessage) -> None:
        if self._nonce is not None and message.session.nonce == self._nonce and self.mode is Mode.INIT:
            self._enter_sync(message.session)  # rule 5
        if message.session != self.session:
            return
        self.custody.peer_pickup(message.pickup)
        if self.mode is not Mode.SYNC:
            if message.reply_wanted:
                self._send_logstate(reply_wanted=False)
            return
        if message.length < self.log.base:
            raise RecordError(f"the peer's log ends at {message.length}; ours is kept from {self.log.base} on")
        if message.length <= self.log.length:
            if self.log.digest_at(message.length) != message.digest:
                # let the peer see the conflict too: it checks the digest that comes with the records
                self._send_records(max(message.length - 1, self.log.base))
                raise RecordError(f"the logs differ within the first {message.length} records")
            self._watch_for_rollback(message.length)
            self._peer_length, self._peer_missing = message.length, message.missing
            if message.length < self.log.length:
                self._send_records(message.length)
        if message.reply_wanted:
            self._send_logstate(reply_wanted=False)
        self._advance()

    def _watch_for_rollback(self, length: int) -> None:
        """What the peer said to be durable is gone there. It is healed from our log; people should know."""
        if length < self._peer_durable:
            cause = f"the peer's log went back from {self._peer_durable} records to {length}"
            self._report("rollback-detected", cause=cause)
        self._peer_durable = length

    def _send_records(self, first: int) -> None:
        assert self.session is not None
        records = fitting(self.log.records_from(first))
        if not records:
            return
        digest = self.log.digest_at(first + len(records))
        assert digest is not None
        self._send(HelloRecords(self.session, first, digest, records))

    def _receive_records(self, message: HelloRecords) -> None:
        if message.session != self.session or self.mode is not Mode.SYNC:
            return
        if message.first > self.log.length:
            return  # a gap: our LOGSTATE asks for what is missing
        for index, data in enumerate(message.records, message.first):
            if index < self.log.length:
                if index >= self.log.base and self.log.record(index) != data:
                    raise RecordError(f"the logs differ at record {index}")
            else:
                self._append(data)
        end = message.first + len(message.records)
        if self.log.digest_at(end) != message.digest:
            raise RecordError(f"the logs differ within the first {end} records")
        self._send_logstate(reply_wanted=self.settings.master)
        self._advance()

    def _append(self, data: bytes) -> Record:
        record = self.log.append(data)
        self.custody.appended(self._now_ns, record)
        return record

    def _write(self, record: Record) -> None:
        """Master: durable here, then sent (by the caller)."""
        self._append(encode(record))

    def _epoch_of_session(self) -> Epoch | None:
        epoch = self.log.state.session
        return epoch if epoch is not None and epoch.session == self.session else None

    def _advance(self) -> None:
        """Rules 7 and 8: bring the log to this session's EPOCH, then CONFIRM."""
        epoch = self._epoch_of_session()
        if self._confirm_sent:
            return
        if self.settings.master:
            if self._peer_length != self.log.length:
                return
            if epoch is None:
                self._write_next()
                return
        elif epoch is None:
            return
        self._confirm(epoch)

    def _write_next(self) -> None:
        """Master, logs equal and acknowledged: the one next record of the restart."""
        custody, state = self.custody, self.log.state
        bootstrap = custody.bootstrap_entries()
        doomed = set(state.opened)
        live = {chunk.number for chunk in state.live()}
        doomed.update(live.intersection(self._peer_missing or ()), custody.missing())
        if bootstrap:
            for entry in bootstrap:
                self._write(Store(state.next_chunk, (entry,)))
        elif doomed:
            self._write(Void(tuple(sorted(doomed)[:MAX_CHUNKS_IN_RECORD])))
        elif self._now_ns < self._next_epoch_ns:
            self._next_send_ns = min(self._next_send_ns, self._next_epoch_ns)
            return
        else:
            slot = custody.next_slot()
            if slot is None:
                self.cause = NO_KEY_LEFT
                return
            assert self.session is not None
            self._write(Epoch(*slot, self.session))
            # a peer that withholds CONFIRM costs a slot each time: ever more slowly
            wait = min(SECOND_NS << self._epoch_attempts, self.settings.epoch_backoff_max_ns)
            self._next_epoch_ns = self._now_ns + wait
            self._epoch_attempts = min(self._epoch_attempts + 1, 10)
        self._send_records(self._peer_length)

    def _confirm(self, epoch: Epoch) -> None:
        assert self.session is not None
        block, offset = self.log.state.chunks[epoch.chunk].slot_place(epoch.slot)
        if self.custody.lacks(epoch.chunk):
            self._enter_init("the epoch chunk's bytes are missing here")  # rule 13: the next LOGSTATE reports it
            return
        self._engine.begin(self.log.length, block, offset, self.settings.master)
        self._engine.allow(ALL)  # what the last session allowed says nothing of this one
        confirm = Confirm(self.session, self.log.length, self.log.digest)
        self._confirm_sent = True
        self.cause = "confirming"
        self._engine.submit(PRIORITY_STORE, pack_control(confirm))  # no reserve may hold it back

    # --- up ----------------------------------------------------------------------------------------------------------

    def _control(self, payload: bytes, fingerprints: Fingerprints | None) -> None:
        try:
            message: Control = unpack_control(payload)
            if isinstance(message, Confirm):
                self._receive_confirm(message)
            elif self._confirm_sent and not isinstance(message, Ping):
                # one that overtook the peer's CONFIRM waits for it in custody
                fingerprints = self.custody.receive(self._now_ns, message, fingerprints, up=self.mode is Mode.UP)
        finally:
            if fingerprints is not None:
                fingerprints.release()

    def _receive_confirm(self, message: Confirm) -> None:
        if self.mode is not Mode.SYNC or not self._confirm_sent:
            return
        if message != Confirm(message.session, self.log.length, self.log.digest) or message.session != self.session:
            raise RecordError("CONFIRM names another log")
        self.mode, self.cause = Mode.UP, ""
        self._mode_since_ns = self._now_ns
        self._epoch_attempts = 0
        self._next_send_ns = self._now_ns + self.settings.sync_resend_ns
        self._next_ping_ns = self._now_ns + self.settings.keepalive_ns
        self.custody.session_up(self._now_ns)
        self._report("session-up", epoch=self.log.length)

    def _tick(self) -> None:
        if self.mode is Mode.UP:
            if self._starved():
                return
            self._keep_alive()
            self._next_send_ns = self._now_ns + self.settings.sync_resend_ns
        elif self._now_ns >= self._next_send_ns:
            if self.mode is Mode.INIT:
                self._send_init()
            else:
                self._tick_sync()

    def _tick_sync(self) -> None:
        waited = self._now_ns - self._mode_since_ns
        if waited >= self.settings.sync_timeout_ns and self._epoch_of_session() is None:
            self._enter_init("the peer fell silent during sync")  # rule 11
            return
        wait = min(self.settings.sync_resend_ns << min(self._resends, 6), self.settings.hello_interval_max_ns)
        self._resends += 1
        self._next_send_ns = self._now_ns + wait
        self._send_logstate(reply_wanted=True)
        self._advance()

    def _starved(self) -> bool:
        """Out of words with blocks waiting: a new epoch's starter words may bring them in, ever more rarely."""
        starved = self.custody.starved_ns(self._now_ns)
        if starved == 0:
            self._starved_limit_ns = self.settings.starved_ns
        if starved < self._starved_limit_ns or self.custody.next_slot() is None:
            return False
        self._starved_limit_ns = min(2 * self._starved_limit_ns, self.settings.starved_max_ns)
        self._enter_init("out of key: a new epoch brings its starter words")
        return True

    def _keep_alive(self) -> None:
        progress = self._engine.progress()
        silence = self._now_ns - max(progress.last_verified_ns, self._mode_since_ns)
        if self._now_ns >= self._next_ping_ns:
            if silence >= self.settings.keepalive_ns:
                self._engine.submit(PRIORITY_PING, pack_control(Ping()))
                self._next_ping_ns = self._now_ns + self.settings.keepalive_ns
            else:
                self._next_ping_ns += self.settings.keepalive_ns - silence
        dead = silence >= self.settings.dead_ns
        suspect = progress.in_flight_packets > 0 and silence >= self.settings.suspect_ns
        # starved and still here: _starved found no slot for a new epoch
        starved = self.custody.starved_ns(self._now_ns) >= self._starved_limit_ns
        self.cause = NO_KEY_LEFT if starved else "the peer is silent" if dead or suspect else ""

    def _update_usable(self) -> None:
        """Does the link carry traffic now, and if not, why."""
        self.custody.update_reserves()
        up = self.mode is Mode.UP and not self.cause
        alarmed = bool(self.alarms) and self.settings.device_alarm_downs_link
        usable = up and not alarmed and self.custody.reserves.traffic
        if usable != self.usable:
            self.usable = usable
            self._engine.set_usable(usable)
            self._report("link-up" if usable else "link-down", cause=self.why_unusable())

    @property
    def silent(self) -> bool:
        """Nothing is heard of the peer, or nothing that makes a session."""
        return self.mode in (Mode.INIT, Mode.SYNC) or (self.mode is Mode.UP and bool(self.cause))

    def why_unusable(self) -> str:
        """For people: why the link carries no traffic; empty when it does."""
        if self.usable:
            return ""
        if self.mode is not Mode.UP or self.cause:
            return self.cause or self.mode.value
        if self.alarms and self.settings.device_alarm_downs_link:
            return "; ".join(f"device {name}: {cause}" for name, cause in sorted(self.alarms.items()))
        return f"key {self.custody.reserves.state.value}"

    def status(self) -> dict[str, Any]:
        """Figures for ``qbb status``; no key bytes."""
        return {
            "state": self.mode.value,
            "usable": self.usable,
            "cause": self.why_unusable(),
            "log_records": self.log.length,
            "rejected": dict(self.rejected),
            **self.custody.status(),
        }
