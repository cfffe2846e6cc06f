"""What an end does: the numbered rules of the link log, hello and restart, one function per cause.

Each function takes a state and returns the next one, or None when the event changes nothing.  Where a rule is
planted wrong, the flaw's name stands in the test at that place (`self.flaw("...")`), so the rules read as the
product should have them.

Writing a record and what follows from its being durable are apart (`append`, `after_append`): with torn
writes switched on, a crash or a failed sync may come between.  Everything that an end does without waiting
(acknowledging, sending what was just written, the master's VOID, EPOCH and CONFIRM in SYNC) is done in one
step with its cause; a crash in between loses the messages, which the network may do anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from linklog_properties import check_spend, check_wipe, fail
from linklog_state import (
    INIT,
    MASTER,
    NAMES,
    NO_SID,
    QUARANTINE,
    SLAVE,
    SYNC,
    UP,
    Chal,
    Content,
    End,
    Init,
    LogState,
    Message,
    Packet,
    Record,
    Resp,
    Shape,
    Sid,
    State,
    Word,
    chunks_of,
    fresh_nonce,
)


@dataclass(frozen=True)
class Config:
    """What a run explores: the sizes, the adversary's budget, and the dimensions switched on."""

    name: str
    shape: Shape = field(default_factory=Shape)
    log: tuple[Record, ...] = ()  # durable at both ends from the start
    held: tuple[int, int] = (0, 0)  # block files of each end from the start
    crashes: int = 0
    rolls: int = 0  # rollbacks, together
    roll_ends: tuple[int, ...] = (MASTER, SLAVE)
    timers: int = 0  # blind firings of the SYNC timer, together
    skips: int = 0  # data packets given up, together
    losses: int = 0  # block files that vanish, unnoticed until asked for, together
    data: bool = True
    close: bool = False
    torn: bool = False  # records are written and synced in two steps
    opens: int = 2  # chunks opened in a session
    flaws: frozenset[str] = frozenset()
    keep: frozenset[str] = frozenset()  # kinds of messages that are never pruned


class Rules:
    """The rules under one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def flaw(self, name: str) -> bool:
        """Whether the run has this rule planted wrong."""
        return name in self.config.flaws

    # --- what an end knows ---

    def epoch(self, e: End) -> Record | None:
        """The EPOCH record of the end's session, once it is durable."""
        log = e.log
        if log.epoch < 0 or e.mode < SYNC:
            return None
        if log.epoch >= e.durable and not self.flaw("answers_before_sync"):
            return None
        r = log.records[log.epoch]
        if r.sid == e.sid:
            return r
        if self.flaw("epoch_without_session") and (e.mode == UP or log.epoch == len(log) - 1):
            return r
        return None

    @staticmethod
    def not_held(e: End) -> int:
        """The chunks that the log counts on and whose files the end does not have."""
        return e.log.live & ~e.held

    def usable(self, x: int, e: End) -> int:
        """How many words of its stream the end may have taken by now (rule 10)."""
        stream = e.log.streams[x]
        limit = e.acked if x == MASTER else e.durable
        if self.flaw("spends_before_ack") and x == MASTER:
            limit = len(e.log)
        if self.flaw("answers_before_sync"):
            limit = max(limit, len(e.log))
        n = len(stream)
        while n and stream[n - 1].opened_by >= limit and stream[n - 1].opened_by != e.log.epoch:
            n -= 1
        return n

    # --- leaving and entering sessions ---

    def leave(self, st: State, x: int) -> State:
        """Drop the session: what it spent is remembered by the ghost alone."""
        e = st.end(x)
        units = 0
        for w in self.taken(x, e):
            units |= w.unit
        return st._replace(spent=st.spent | units)

    def taken(self, x: int, e: End) -> tuple[Word, ...]:
        """The words that the end took in its session."""
        return e.log.streams[x][: e.position] if self.epoch(e) else ()

    def boot(self, st: State, x: int, disk: End) -> State:
        """Rules 1 and 11: forget all that is volatile, draw n and c, send INIT.  The disk is as given."""
        st = self.leave(st, x)
        held = disk.held & ~disk.log.dead
        kept = End(disk.log, held, disk.rolled, mark=disk.mark)
        e = kept._replace(n=fresh_nonce(x), c=fresh_nonce(x))
        return st.with_end(x, e).send(Init(x, e.n))

    def enter(self, st: State, x: int, sid: Sid) -> State:
        """Rules 4 and 5: drop the old session, enter SYNC, redraw c; only then look at the log."""
        e, peer = st.end(x), st.end(1 - x)
        if e.mode == UP and peer.sid == e.sid and peer.mode in (SYNC, UP):
            fail("F", f"{NAMES[x]} leaves a session in which its peer still is")
        st = self.leave(st, x)
        keeps = self.flaw("challenge_kept") or (self.flaw("initiators_challenge_kept") and sid[0] == e.n)
        c = e.c if keeps else fresh_nonce(x)
        e = End(e.log, e.held, e.rolled, e.pending, e.mark, mode=SYNC, sid=sid, c=c, back=e.back)
        if self.flaw("missing_read_at_entry"):
            e = e._replace(known=self.not_held(e))
        return self.log_state(st.with_end(x, e), x)

    def log_state(self, st: State, x: int) -> State:
        """Rule 6: say what my durable log is and which of its live chunks I do not hold, both read now."""
        e = st.end(x)
        missing = e.known if self.flaw("missing_read_at_entry") and x == SLAVE else self.not_held(e)
        if self.flaw("not_held_not_reported"):
            missing = 0
        log = e.log if self.flaw("answers_before_sync") else e.log.cut(e.durable)
        return st.send(LogState(x, e.sid, log, missing))

    # --- the log ---

    def append(self, st: State, x: int, record: Record) -> State:
        """Write a record; what follows from it waits for the sync."""
        e = st.end(x)
        st = st.with_end(x, e._replace(log=e.log.plus(record)))
        if self.config.torn:
            st = st.with_end(x, st.end(x)._replace(pending=1))
            if not self.flaw("answers_before_sync"):
                return st
        return self.after_append(st, x)

    def after_append(self, st: State, x: int) -> State:
        """What an end does once the last record of its log is durable."""
        e = st.end(x)
        record = e.log.records[-1]
        if e.held & e.log.dead:
            check_wipe(st, x, e.held & e.log.dead)
            e = e._replace(held=e.held & ~e.log.dead)
            st = st.with_end(x, e)
        if e.mode == SYNC:
            e = self.of_another_life(x, e, record)
            st = st.with_end(x, e)
        if record.kind in ("OPEN", "EPOCH") and e.mode in (SYNC, UP) and self.not_held(e) >> record.chunk & 1:
            mine = (record.kind == "OPEN" and e.mode == UP) or self.epoch(e) is record
            if mine and not self.flaw("serves_without_file"):
                return self.boot(st, x, e)  # rule 13: the next session will void the chunk
        if e.mode == SYNC:
            st = self.log_state(st, x)
            if self.epoch(e) is record and (x == SLAVE or self.flaw("confirms_before_ack")):
                st = self.spend(st, x, Content("CONFIRM", len(e.log)))
            return st
        if e.mode == UP and x == MASTER:
            return self.spend(st, x, Content("RECORD", len(e.log) - 1, record))
        return self.acknowledge(st) if e.mode == UP else st

    def of_another_life(self, x: int, e: End, record: Record) -> End:
        """Rule 6: an end that was rolled back does not take its file of that name for the block that was compared."""
        if record.kind == "EPOCH":
            return e._replace(back=1)
        if record.kind == "STORE" and (x == MASTER or e.back):
            return e._replace(held=e.held & ~(1 << record.chunk))
        return e

    def acknowledge(self, st: State) -> State:
        """The slave's acknowledgement in UP, when it owes one and has a word for it."""
        e = st.slave
        if e.mode != UP or (e.pending and not self.flaw("answers_before_sync")):
            return st
        new = e.log.records[e.acked :]
        news = self.config.close and e.received & ~e.known
        left = self.usable(SLAVE, e) - e.position
        opened = any(r.kind == "OPEN" for r in new)
        if not (new or news) or left < (1 if opened else 2):
            return st
        ack = Content("ACK", len(e.log), received=e.received if self.config.close else 0, missing=self.not_held(e))
        return self.spend(st.with_end(SLAVE, e._replace(acked=len(e.log), known=e.received)), SLAVE, ack)

    def spend(self, st: State, x: int, content: Content) -> State:
        """Seal a packet with the next word of the stream and send it."""
        e = st.end(x)
        epoch = self.epoch(e)
        assert epoch is not None
        stream = e.log.streams[x]
        word = stream[e.position]
        if self.flaw("mask_by_durable_mark") and e.position == 0:
            word = Word(0, 1 << (1000 + 2 * e.mark + x), epoch.chunk, word.opened_by)
            e = e._replace(mark=e.mark + 1)
        st = self.seal(st, x, e, word, e.position, content)
        if not word.bit:
            st = st._replace(spent=st.spent | word.unit)
        return st.with_end(x, e._replace(position=e.position + 1))

    def seal(self, st: State, x: int, e: End, word: Word, position: int, content: Content) -> State:
        """Make the tag with the word, which is where a reuse would happen, and send the packet."""
        check_spend(self, st, x, word, e)
        epoch = self.epoch(e)
        assert epoch is not None
        return st.send(Packet(x, (epoch.chunk, epoch.detail), position, word.bit, content))

    # --- hello ---

    def deliver(self, st: State, m: Message) -> State | None:
        """An end receives a message."""
        x = 1 - m.sender
        e = st.end(x)
        if e.mode == QUARANTINE or e.pending:
            return None  # an end that writes does nothing else until its sync
        if isinstance(m, Init):
            return self.on_init(st, x, m)
        if isinstance(m, Chal):
            return self.on_chal(st, x, m)
        if isinstance(m, Resp):
            return self.enter(st, x, (m.n, m.c)) if m.c == e.c else None  # rule 4
        if isinstance(m, LogState):
            return self.on_log_state(st, x, m)
        return self.on_packet(st, x, m)

    def on_init(self, st: State, x: int, m: Init) -> State | None:
        """Rule 2: answer and change nothing; the tie goes to the master."""
        e = st.end(x)
        if self.flaw("init_takes_down") and e.mode != INIT and m.n not in e.sid:
            return self.enter(st, x, (m.n, e.c))
        if m.n in e.sid or (x == MASTER and e.mode == INIT):
            return None  # its LOGSTATE is in the network already
        if self.flaw("log_read_before_entry"):
            st = st.send(LogState(x, (m.n, e.c), e.log, self.not_held(e)))
        return st.send(Chal(x, e.c, m.n))

    def on_chal(self, st: State, x: int, m: Chal) -> State | None:
        """Rule 3: prove my own outstanding nonce, stay in INIT; never take a challenge for a hello."""
        e = st.end(x)
        if e.n != 0 and m.n == e.n:
            return st.send(Resp(x, m.n, m.c))
        if self.flaw("one_hello_type"):
            # The challenge looks like a hello of nonce c that answers n.
            if m.n == e.c:
                return self.enter(st, x, (m.c, m.n))
            return self.on_init(st, x, Init(m.sender, m.c))
        return None

    def on_log_state(self, st: State, x: int, m: LogState) -> State | None:
        """Rules 5 to 8: enter on the first LOGSTATE with my nonce, take over records, go on to CONFIRM."""
        e = st.end(x)
        before = st
        if e.n != 0 and m.sid[0] == e.n:
            st = self.enter(st, x, m.sid)
            e = st.end(x)
        if e.mode != SYNC and not self.flaw("records_not_bound"):
            return None
        if e.sid != m.sid and not (self.flaw("records_not_bound") and x == SLAVE and e.mode == SYNC):
            return None
        mine, theirs = e.log, m.log
        if not mine.begins(theirs) and not theirs.begins(mine):
            return st.with_end(x, End(e.log, e.held, e.rolled, mark=e.mark, mode=QUARANTINE))
        if len(theirs) > len(mine):
            st = self.append(st, x, theirs.records[len(mine)])
            e = st.end(x)
            if e.pending:
                return st
        if x == MASTER:
            acked = min(len(theirs), len(e.log))
            if acked >= e.acked:
                st = st.with_end(x, e._replace(acked=acked, missing=m.missing))
            if len(theirs) == len(e.log):
                st = self.proceed(st)
        elif len(theirs) == len(mine) and self.epoch(e) and e.position == 0:
            st = self.spend(st, x, Content("CONFIRM", len(e.log)))
        return st if st != before else None

    def proceed(self, st: State) -> State:
        """Rules 7 and 8: the master in SYNC with the whole log acknowledged."""
        e = st.master
        if self.epoch(e):
            return self.spend(st, MASTER, Content("CONFIRM", len(e.log))) if e.position == 0 else st
        void = (e.log.opened | e.missing | self.not_held(e)) & e.log.live
        if self.flaw("no_void"):
            void &= ~e.log.opened
        if void:
            return self.append(st, MASTER, Record("VOID", void))
        slot = self.next_slot(e)
        if slot is None:
            return st
        sid = NO_SID if self.flaw("epoch_without_session") else e.sid
        return self.append(st, MASTER, Record("EPOCH", *slot, sid))

    def next_slot(self, e: End) -> tuple[int, int] | None:
        """A slot never named: of the epoch chunk in use, or the first of a stored chunk that becomes one."""
        for chunk, named in e.log.slots.items():
            if e.log.live >> chunk & 1:
                if self.flaw("slot_by_volatile_counter"):
                    return chunk, 0
                for slot in range(self.config.shape.slots):
                    if not named >> slot & 1:
                        return chunk, slot
        for chunk in chunks_of(e.log.stored):
            return chunk, 0
        return None

    # --- up ---

    def on_packet(self, st: State, x: int, m: Packet) -> State | None:
        """A sealed packet: opened if it is of this epoch, its word is mine and its position is new."""
        e = st.end(x)
        epoch = self.epoch(e)
        if epoch is None or m.epoch != (epoch.chunk, epoch.detail) or e.received >> m.position & 1:
            return None
        stream = e.log.streams[1 - x]
        if m.position >= len(stream):
            return None
        word = stream[m.position]
        if word.bit != m.word and not self.flaw("mask_by_durable_mark"):
            return None
        content = m.content
        if (content.kind == "CONFIRM") != (e.mode == SYNC):
            return None
        if not e.held >> word.chunk & 1:
            fail("H", f"{NAMES[x]} no longer holds chunk {word.chunk}, needed to open position {m.position}")
        e = e._replace(received=e.received | 1 << m.position)
        if content.kind == "CONFIRM":  # rule 9
            if e.position == 0:
                return None
            acked = len(e.log) if x == SLAVE else e.acked
            return st.with_end(x, e._replace(mode=UP, back=0, acked=acked, known=e.received))
        if content.kind == "RECORD":
            if content.number > len(e.log):
                return None  # not accepted before its predecessors
            st = st.with_end(x, e)
            if content.number == len(e.log) and content.record:
                return self.append(st, x, content.record)
            return st
        if content.kind == "ACK":
            acked = max(e.acked, content.number)
            e = e._replace(acked=acked, known=e.known | content.received, missing=e.missing | content.missing)
        elif content.kind == "OFFER":
            e = e._replace(offer=content.number)
        elif content.kind == "SKIP":
            e = e._replace(received=e.received | 1 << content.number)
        return st.with_end(x, e)
