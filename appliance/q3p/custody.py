"""Custody of key on one link: pickup blocks, chunks, who opens, stores and closes them while the link is up.

The master writes the records; the slave offers blocks and reports. Both ends keep the same rules: an own chunk's words
are loaded for sending only when the OPEN record is durable at both ends, and files of ended chunks are destroyed when
the record that ends them takes effect, or at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from appliance.q3p.linklog import LinkLog
from appliance.q3p.logstate import LIVE, Chunk, ChunkState
from appliance.q3p.messages import MAX_PICKUP, Control, Offer, Records, Refuse, fitting, pack_control
from appliance.q3p.messages import Report as ReportMessage
from appliance.q3p.offers import MAX_OFFERED, Intake
from appliance.q3p.ports import BlockStore, Engine, Fingerprints, Progress
from appliance.q3p.records import (
    MAX_CHUNKS_IN_RECORD,
    BlockEntry,
    BlockName,
    Close,
    Direction,
    Epoch,
    Open,
    Record,
    Store,
    Void,
)
from appliance.q3p.reserves import PRIORITY_CONTROL, PRIORITY_STORE, Reserves, batch_minimum_bytes
from appliance.q3p.settings import BOOTSTRAP_DEVICE, SECOND_NS, STARTER_WORDS, LinkSettings
from appliance.q3p.streams import Stream

RESEND_NS = 5 * SECOND_NS
REOFFER_NS = 60 * SECOND_NS  # the master may have had to drop an offer
PICKUP_SHARE = 4  # blocks that the peer lacks leave the rest of a full store to others
SPARE_SLOTS = 2  # below so many free epoch slots one common chunk is kept for the next epoch chunk
MAX_STASHED = 64
MOST_GIVEN_UP = 1 << 16  # by then no STORE of the first is on its way any more
MAX_UNACKNOWLEDGED = 200  # records the master sends ahead of the slave's report; the slave keeps early ones
# Reserve of the last tag masks, so that a link without open chunks can always open the next: the master's last two are
# for OPEN records, the slave's last one for the report that acknowledges them.
OPEN_MASKS = 3
REPORT_MASKS = 2
STARVED_MASKS = REPORT_MASKS + 2  # an offer of one block takes a mask and its fingerprint's pad


class Custody:
    """The keeper of one end's key. Public methods raise OSError from the store and RecordError on a conflicting log."""

    def __init__(
        self,
        settings: LinkSettings,
        log: LinkLog,
        store: BlockStore,
        engine: Engine,
        random: Callable[[int], bytes],
        report: Callable[..., None],
        write: Callable[[Record], None],
    ) -> None:
        self.settings = settings
        self.reserves = Reserves(settings.marks)
        self._log, self._store, self._engine = log, store, engine
        self._random, self._report, self._write = random, report, write
        self._held = store.blocks()
        self._unsettled = store.unsettled()
        self._arrived_ns: dict[BlockName, int] = {}
        # as they came; of those from before the start nobody knows any more
        self._pickup = {name: None for name in sorted(self._held) if name not in log.state.stored}
        self._stale: set[BlockName] = set()  # here for long when the session came up
        self.displaced = 0  # blocks that made room for younger ones
        self._unheld = {chunk.number for chunk in log.state.live() if not self.holds(chunk.number)}
        self._intake = Intake(store)
        self._times_offered: dict[BlockName, int] = {}
        self._peer_pickup: frozenset[BlockName] = frozenset()
        self.in_session = False
        self._went_back = False  # the peer's log tells of sessions that this end has no records of
        self._forget_session()

    def _forget_session(self) -> None:
        self.broken = False  # a chunk was opened whose bytes are not here: only a new session voids it
        self._streams = {True: Stream(out=True), False: Stream(out=False)}
        self._stashed: list[tuple[Control, Fingerprints | None]] = []
        self._early: dict[int, bytes] = {}
        self._offered_ns: dict[BlockName, int] = {}
        self._first_offered_ns: dict[BlockName, int] = {}
        self._given_up: dict[BlockName, None] = {}  # in this session, before they were stored; the latest
        self._to_feed: list[tuple[int, Chunk]] = []  # master's out chunks, until the OPEN is acknowledged
        self._peer_length = self._sent_length = 0
        self._peer_settled = self._peer_spent = 0
        self._peer_missing: set[int] = set()
        self._stored_at: dict[int, int] = {}
        self._sent_ns = 0
        self._told: tuple[int, int, int] = (0, 0, 0)
        self._report_due = False
        self._progress: Progress | None = None
        self._starved_since_ns: int | None = None
        self._intake.clear()

    # --- what is held ------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """At a start: destroy what the log says is ended."""
        live = {entry.name for chunk in self._log.state.live() for entry in chunk.entries}
        stored, is_past = self._log.state.stored, self._log.state.is_past
        unused = self._unsettled | (self._held.keys() - live)
        for name in [name for name in self._held if (name in stored and name in unused) or is_past(name)]:
            self._destroy(name)
        for chunk in list(self._log.state.chunks.values()):
            if chunk.state not in LIVE:
                self._log.state.forget_ended(chunk.number)

    def holds(self, number: int) -> bool:
        """Are the chunk's bytes here, every block in its full length, and are they those that were compared?"""
        entries = self._log.state.chunks[number].entries
        return all(self._held.get(e.name) == e.length_bytes and e.name not in self._unsettled for e in entries)

    def lacks(self, number: int) -> bool:
        """Is a chunk that is needed now not here (any more)? Then the peer will be told."""
        if self.holds(number):
            return False
        self._unheld.add(number)
        return True

    def missing(self) -> list[int]:
        """Chunks that the log counts as live and unspent and whose bytes are not here."""
        state = self._log.state
        return sorted(number for number in self._unheld if number in state.common or number == state.epoch_chunk)

    def bootstrap_entries(self) -> list[BlockEntry]:
        """The link secret's blocks, in order: the first key of a new link."""
        names = sorted(name for name in self._pickup if name.device == BOOTSTRAP_DEVICE)
        return [BlockEntry(name, self._held[name]) for name in names]

    def newest_pickup(self, most: int) -> tuple[BlockName, ...]:
        """Blocks that are here, not stored yet."""
        order = sorted(self._pickup, key=lambda name: (-self._arrived_ns.get(name, 0), -name.block_id))
        return tuple(order[:most])

    def peer_pickup(self, names: tuple[BlockName, ...]) -> None:
        """Slave: the newest blocks that the master has."""
        if not self.settings.master:
            self._peer_pickup = frozenset(names)

    def next_slot(self) -> tuple[int, int] | None:
        """Chunk and slot for the next EPOCH; None when there is no key for one."""
        state = self._log.state
        if state.epoch_chunk is not None:
            chunk = state.chunks[state.epoch_chunk]
            if state.next_slot < chunk.slots and self.holds(chunk.number):
                return chunk.number, state.next_slot
        usable = [chunk for chunk in state.common.values() if chunk.slots and chunk.number not in self._unheld]
        if not usable:
            return None
        return min(usable, key=lambda chunk: (chunk.length_bytes, chunk.number)).number, 0

    def _destroy(self, name: BlockName) -> None:
        self._store.destroy(name)
        self._held.pop(name, None)
        self._unsettled.discard(name)
        self._arrived_ns.pop(name, None)
        self._offered_ns.pop(name, None)
        self._first_offered_ns.pop(name, None)
        self._times_offered.pop(name, None)
        self._intake.withdrawn(name)
        if name in self._pickup:
            del self._pickup[name]
            self._given_up[name] = None
            if len(self._given_up) > MOST_GIVEN_UP:
                del self._given_up[next(iter(self._given_up))]

    def name_is_used(self, name: BlockName) -> bool:
        """Was a block of this name here that is gone? Another may not come: the peer may still count on the first, of
        which a STORE may be on its way."""
        if self._log.state.is_past(name) or name in self._given_up:
            return True
        return name in self._log.state.stored and name not in self._held

    def _may_differ(self, name: BlockName) -> bool:
        """Is our block of this name perhaps another than the one that the STORE at hand means?

        In session it is that block: it was compared here, or offered from here and not exchanged since. A STORE that
        comes in SYNC means it too, if it is of the last session that this end was in. A master that gets one, and a
        slave that got an EPOCH before it, was rolled back to before that session. An unsettled block is younger."""
        if self.in_session or name.device == BOOTSTRAP_DEVICE:
            return False
        return self.settings.master or self._went_back or name in self._unsettled

    def block_arrived(self, now_ns: int, entry: BlockEntry) -> None:
        """A block is durable here, unsettled unless in session. One whose name was used is destroyed again; one that
        is here already tells nothing new."""
        name = entry.name
        if name in self._held:
            return
        if self.name_is_used(name):
            self._destroy(name)
            return
        self._held[name] = entry.length_bytes
        self._pickup[name] = None
        self._arrived_ns[name] = now_ns
        if not self.in_session:
            self._unsettled.add(name)
        self._intake.arrived(now_ns, entry)

    def has(self, name: BlockName) -> bool:
        return name in self._held

    def make_room(self, now_ns: int, length_bytes: int, most_bytes: int) -> None:
        """For a new block in a store that has its fill: what the peer never got, the oldest first, if that is more than
        a quarter of all. Else the link would get no key, once the peer is back, before the old blocks expire."""
        lacking = self.kept_bytes() + length_bytes - most_bytes
        over = self._pickup_bytes() - most_bytes // PICKUP_SHARE
        for name in [name for name in self._pickup if self._is_forlorn(now_ns, name)]:
            if lacking <= 0 or over <= 0:
                return
            lacking -= self._held[name]
            over -= self._held[name]
            self._destroy(name)
            self.displaced += 1

    def _is_forlorn(self, now_ns: int, name: BlockName) -> bool:
        """Not from the link secret, and no STORE of it is to be expected soon."""
        offered_ns = self._first_offered_ns.get(name)
        answered = offered_ns is None or now_ns - offered_ns >= REOFFER_NS
        return answered and name.device != BOOTSTRAP_DEVICE and not self._intake.is_ready(name)

    def _settle(self) -> None:
        """The logs are equal: blocks that came before can be none that a record of the peer's means."""
        self._store.settle(self._unsettled)
        self._unsettled.clear()

    # --- records taking effect ---------------------------------------------------------------------------------------

    def appended(self, now_ns: int, record: Record) -> None:
        """A record is durable here, written or received."""
        state = self._log.state
        match record:
            case Store():
                for entry in record.entries:
                    self._pickup.pop(entry.name, None)
                    self._offered_ns.pop(entry.name, None)
                    self._first_offered_ns.pop(entry.name, None)
                    if self._may_differ(entry.name):
                        self._destroy(entry.name)
                self._stored_at[record.chunk] = self._log.length
                if not self.holds(record.chunk):
                    self._unheld.add(record.chunk)
            case Open():
                self._opened(record)
            case Epoch():
                self._went_back = True  # if a STORE comes before a session is up
                self._wipe_ended([chunk.number for chunk in state.chunks.values() if chunk.state is ChunkState.SPENT])
            case Close() | Void():
                self._wipe_ended(list(record.chunks))
        self._report_due = True

    def _opened(self, record: Open) -> None:
        if not self.in_session:
            return
        chunk = self._log.state.chunks[record.chunk]
        out = (record.direction is Direction.MASTER_TO_SLAVE) == self.settings.master
        self.broken = self.lacks(chunk.number) or self.broken
        self._streams[out].open(chunk)
        if out and self.settings.master:
            self._to_feed.append((self._log.length, chunk))
        else:
            self._streams[out].feed(chunk)

    def _wipe_ended(self, numbers: list[int]) -> None:
        for number in numbers:
            chunk = self._log.state.chunks[number]
            if self.in_session and chunk.direction is not None:
                out = (chunk.direction is Direction.MASTER_TO_SLAVE) == self.settings.master
                self._streams[out].close(number, self._engine)
            for entry in chunk.entries:
                self._destroy(entry.name)
            self._unheld.discard(number)
            self._log.state.forget_ended(number)

    # --- session -----------------------------------------------------------------------------------------------------

    def session_ended(self) -> None:
        """The old session is gone; nothing is loaded or offered before the next is up."""
        for _, fingerprints in self._stashed:
            if fingerprints is not None:
                fingerprints.release()
        self.in_session = False
        self._forget_session()

    def session_up(self, now_ns: int) -> None:
        """CONFIRM came: both logs are equal as of now."""
        self._settle()
        self.in_session, self._went_back = True, False
        self._peer_length = self._sent_length = self._log.length
        self._told = (self._log.length, 0, 0)
        self._report_due = False
        self._sent_ns = now_ns
        lately = {name for name, arrived_ns in self._arrived_ns.items() if arrived_ns > now_ns - REOFFER_NS}
        self._stale = self._pickup.keys() - lately
        for name in self._pickup:
            self._arrived_ns.setdefault(name, now_ns)  # from before a restart: expires like others
        while self._stashed:  # one by one: should one fail, the others are given back with the session
            message, fingerprints = self._stashed.pop(0)
            kept = self.receive(now_ns, message, fingerprints, up=True)
            if kept is not None:
                kept.release()

    def receive(
        self, now_ns: int, message: Control, fingerprints: Fingerprints | None, up: bool
    ) -> Fingerprints | None:
        """A control message; returns the fingerprints when they were not kept here."""
        if not up:
            if len(self._stashed) < MAX_STASHED:
                self._stashed.append((message, fingerprints))
                return None
            return fingerprints
        match message:
            case Records() if not self.settings.master:
                self._receive_records(now_ns, message)
            case Refuse() if not self.settings.master:
                self._refused(message)
            case ReportMessage() if self.settings.master:
                self._receive_report(message)
            case Offer() if self.settings.master and fingerprints is not None:
                held = {entry.name: self._held[entry.name] for entry in message.entries if entry.name in self._pickup}
                self._intake.offered(now_ns, message, fingerprints, held, self._log.state.stored)
                return None
        return fingerprints

    def _receive_records(self, now_ns: int, message: Records) -> None:
        """Slave: append in order what is next; keep what came early."""
        for index, data in enumerate(message.records, message.first):
            if self._log.length <= index < self._log.length + 2 * MAX_UNACKNOWLEDGED:
                self._early[index] = data
        while self._log.length in self._early:
            self.appended(now_ns, self._log.append(self._early.pop(self._log.length)))
        self._report_due = True

    @property
    def peer_length(self) -> int:
        """Records that the peer has, durably."""
        return self._peer_length

    def _receive_report(self, message: ReportMessage) -> None:
        self._peer_length = max(self._peer_length, min(message.length, self._log.length))
        self._peer_settled = max(self._peer_settled, message.settled_words)
        self._peer_spent = max(self._peer_spent, message.spent_words)
        self._peer_missing.update(message.missing)

    def _refused(self, message: Refuse) -> None:
        """A block that was stored nevertheless is given up with its chunk, unless that is open: then it was equal."""
        common = {e.name: number for number, chunk in self._log.state.common.items() for e in chunk.entries}
        for entry in message.entries:
            if entry.name in self._pickup or (entry.name in common and entry.name in self._held):
                self._destroy(entry.name)
                self._report("store-mismatch", block=str(entry.name))
            if entry.name in common:
                self._unheld.add(common[entry.name])
                self._report_due = True

    # --- while up ----------------------------------------------------------------------------------------------------

    def manage(self, now_ns: int) -> None:
        """Called after every input while up: load, open, close, store, offer, report."""
        self._progress = progress = self._engine.progress()
        if self.settings.master:
            self._write_records(now_ns, progress)
        else:
            self._offer(now_ns, progress)
            self._tell(progress)
        for length, chunk in self._to_feed:
            if self._peer_length >= length:
                self._streams[True].feed(chunk)
        self._to_feed = [(length, chunk) for length, chunk in self._to_feed if self._peer_length < length]
        for stream in self._streams.values():
            stream.pump(self._engine)
        self._watch_starvation(now_ns, progress)
        if self._log.compact(self._peer_length if self.settings.master else self._log.length):
            self.sweep()
        self._expire(now_ns)

    def _write_records(self, now_ns: int, progress: Progress) -> None:
        self._open_ahead(progress)
        if progress.usable_masks >= OPEN_MASKS:
            self._settle_and_store(now_ns, progress)
            self._open_ahead(progress)
        if now_ns - self._sent_ns >= RESEND_NS and self._peer_length < self._log.length:
            self._sent_length = self._peer_length  # the queue was full, or the packet was given up
        self._send_records(now_ns)

    def _send_records(self, now_ns: int) -> None:
        while self._sent_length < min(self._log.length, self._peer_length + MAX_UNACKNOWLEDGED):
            records = fitting(self._log.records_from(self._sent_length))
            if not self._engine.submit(PRIORITY_STORE, pack_control(Records(self._sent_length, records))):
                return
            self._sent_length += len(records)
            self._sent_ns = now_ns

    def _settle_and_store(self, now_ns: int, progress: Progress) -> None:
        self._void_missing()
        self._close_settled(progress)
        self._refuse()  # before blocks are stored, which may be equal to one offer and not to another
        for entries in self._intake.take_ready(now_ns, self.settings.chunk_bytes):
            self._write(Store(self._log.state.next_chunk, entries))

    def _refuse(self) -> None:
        refused = self._intake.take_refused()
        if not refused:
            return
        self._engine.submit(PRIORITY_CONTROL, pack_control(Refuse(refused)))
        for entry in refused:
            if entry.name in self._pickup:
                self._destroy(entry.name)
                self._report("store-mismatch", block=str(entry.name))

    def _void_missing(self) -> None:
        lost = [number for number in sorted(self._peer_missing) if number in self._log.state.common]
        self._peer_missing.clear()
        if lost:
            self._write(Void(tuple(lost[:MAX_CHUNKS_IN_RECORD])))

    def _close_settled(self, progress: Progress) -> None:
        done = [span.chunk for span in self._streams[True].settled(progress.out_settled)]
        done += [span.chunk for span in self._streams[False].settled(self._peer_settled)]
        if done:
            self._write(Close(tuple(done[:MAX_CHUNKS_IN_RECORD])))

    def _open_ahead(self, progress: Progress) -> None:
        """Keep half a chunk of unspent words open in each direction, the emptier one first."""
        left = {
            Direction.MASTER_TO_SLAVE: self._streams[True].end - progress.out_spent,
            Direction.SLAVE_TO_MASTER: self._streams[False].end - self._peer_spent,
        }
        # on its starter words alone, a slave that cannot offer blocks is worse off than a master that cannot answer
        for direction in sorted(left, key=lambda d: (left[d] > STARTER_WORDS, -d)):
            if left[direction] >= self.settings.chunk_bytes // 16:
                continue
            chunk = self._next_common()
            if chunk is None:
                return
            self._write(Open(chunk.number, direction))

    def _next_common(self) -> Chunk | None:
        """The oldest common chunk that both ends hold; one is spared for the next epoch chunk when slots run out."""
        state = self._log.state
        if len(state.common) <= self._spared_chunks():
            return None
        for chunk in state.common.values():
            if self._stored_at.get(chunk.number, 0) <= self._peer_length and chunk.number not in self._unheld:
                return chunk
        return None

    def _spared_chunks(self) -> int:
        """How many common chunks are kept for the next epoch chunk: one, when slots run out."""
        state = self._log.state
        slots = 0
        if state.epoch_chunk is not None:
            slots = state.chunks[state.epoch_chunk].slots - state.next_slot
        return 1 if slots < SPARE_SLOTS else 0

    def _offer(self, now_ns: int, progress: Progress) -> None:
        """Slave: offer fresh blocks, enough at a time that a STORE costs its small share only."""
        room = progress.usable_masks - REPORT_MASKS - 1  # fingerprints that the words at hand can pad
        if room < 1:
            return
        again = now_ns - REOFFER_NS
        waiting = {name for name, offered_ns in self._offered_ns.items() if offered_ns > again}
        fresh = sorted((n for n in self._pickup if n not in waiting and self._is_worth_it(n)), key=self._offer_order)
        if not fresh:
            return
        wanted = self.settings.chunk_bytes if self.reserves.traffic else 0
        batch: list[BlockEntry] = []
        size = 0
        for name in fresh:
            if len(batch) == min(MAX_OFFERED, room) or (batch and size + self._held[name] > self.settings.chunk_bytes):
                break
            batch.append(BlockEntry(name, self._held[name]))
            size += self._held[name]
        full = len(batch) < len(fresh)
        if size < batch_minimum_bytes(len(batch)) or (size < wanted and not full):
            return
        hash_key = self._random(16)
        offer = pack_control(Offer(hash_key, tuple(batch)))
        if not self._engine.submit_offer(PRIORITY_STORE, offer, hash_key, batch):
            return
        for entry in batch:
            self._offered_ns[entry.name] = now_ns
            self._first_offered_ns.setdefault(entry.name, now_ns)
            self._times_offered[entry.name] = self._times_offered.get(entry.name, 0) + 1

    def _is_worth_it(self, name: BlockName) -> bool:
        """While key is short it is not spent on offers of what the peer did not tell that it has, as after an outage of
        which it kept nothing. What just came here it may get yet; one that has many cannot tell all at once."""
        if self.reserves.traffic or name not in self._stale or name in self._peer_pickup:
            return True
        return len(self._peer_pickup) >= MAX_PICKUP and self._peer_pickup.isdisjoint(self._pickup)

    def _offer_order(self, name: BlockName) -> tuple[bool, int, int, int]:
        """What the master has first, then the newest: after a rollback of its disk it may lack the old ones."""
        unknown = name not in self._peer_pickup
        return unknown, self._times_offered.get(name, 0), -self._arrived_ns.get(name, 0), -name.block_id

    def _tell(self, progress: Progress) -> None:
        """Slave: report what the master must know."""
        length, settled, spent = self._told
        ahead = self.settings.chunk_bytes // 16
        left = self._streams[True].end - progress.out_spent
        hungry = left < ahead <= self._streams[True].end - spent
        new_settled = bool(self._streams[True].settled(progress.out_settled)) and progress.out_settled > settled
        grown = self._log.length > length or self._report_due
        if not (grown or hungry or new_settled):
            return
        if progress.usable_masks < REPORT_MASKS and not self._streams[True].spans:
            return  # the last mask waits for an OPEN to acknowledge
        missing = tuple(self.missing()[:50])
        told = ReportMessage(self._log.length, progress.out_settled, progress.out_spent, missing)
        if not self._engine.submit(PRIORITY_STORE, pack_control(told)):
            return
        self._told = (self._log.length, progress.out_settled, progress.out_spent)
        self._report_due = False

    def _watch_starvation(self, now_ns: int, progress: Progress) -> None:
        out = self._streams[True]
        if progress.usable_masks >= STARVED_MASKS or out.end > progress.out_loaded:
            self._starved_since_ns = None
        elif self._starved_since_ns is None:
            self._starved_since_ns = now_ns

    def starved_ns(self, now_ns: int) -> int:
        """How long this end has had too few words to store fresh blocks, with no chunk on its way to it."""
        return 0 if self._starved_since_ns is None else now_ns - self._starved_since_ns

    def _expire(self, now_ns: int) -> None:
        """Destroy blocks that the other end has never shown: its device lost them."""
        limit = now_ns - self.settings.pickup_expiry_ns
        if limit <= 0:
            return
        for name in [name for name, since in self._arrived_ns.items() if since <= limit]:
            if name in self._pickup:
                self._destroy(name)
                self._report("block-expired", block=str(name))
            self._arrived_ns.pop(name, None)

    # --- levels ------------------------------------------------------------------------------------------------------

    def available_bytes(self) -> int:
        """Key that this end's out direction may count on."""
        unspent = 0
        if self.in_session and self._progress is not None:
            unspent = 8 * (self._progress.out_loaded - self._progress.out_spent)
        state = self._log.state
        spared = next(iter(state.common.values())).length_bytes if state.common and self._spared_chunks() else 0
        return unspent + (state.common_bytes - spared) // 2

    def kept_bytes(self) -> int:
        """Key that takes room on the disk: in chunks, or not yet in one."""
        state = self._log.state
        opened = sum(chunk.length_bytes for chunk in state.opened.values())
        return state.common_bytes + opened + self._pickup_bytes()

    def _pickup_bytes(self) -> int:
        return sum(self._held[name] for name in self._pickup)

    def update_reserves(self) -> None:
        self.reserves.update(self.available_bytes())
        if self.in_session:
            self._engine.allow(self.reserves.allowed_priority)

    def status(self) -> dict[str, Any]:
        state = self._log.state
        opened = sum(chunk.length_bytes for chunk in state.opened.values())
        return {
            "store_state": self.reserves.state.value,
            "common_bytes": state.common_bytes,
            "open_bytes": opened,
            "pickup_bytes": self._pickup_bytes(),
            "stored_bytes": state.common_bytes + opened,
            "available_bytes": self.available_bytes(),
            "chunks": len(state.chunks),
        }
