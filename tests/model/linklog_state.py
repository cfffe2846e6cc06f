"""The state of the link-log model: records, logs, ends, messages, and what makes two states the same.

The model is about *names*, not bytes.  A chunk is a small number; a word of key is "word j of chunk c" or
"word i of one direction's half of slot k of epoch chunk c"; a tag verifies when both ends took it from the
same word and the same slot's H.  What the product keeps on disk is the log and the set of block files held;
all else of an end is volatile and gone after a crash.

The network is the set of everything ever sent.  Loss is a message never delivered, delay one delivered late,
duplication and replay one delivered again; so a message is removed from the set for one reason only: no end
can ever accept it again.  HMACs and tags are taken as unforgeable, so the attacker sends nothing of his own.

Three reductions keep the space small, each sound for the reason given at its function: dead messages are
pruned, nonces are renamed in order of appearance (they are only ever compared for equality), and the session
in an EPOCH record is forgotten once neither end is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import ClassVar, NamedTuple

MASTER, SLAVE = 0, 1
NAMES = "MS"

INIT, SYNC, UP, QUARANTINE = range(4)
MODES = ("INIT", "SYNC", "UP", "QUARANTINE")

Sid = tuple[int, int]
"""(initiator's nonce, responder's challenge).  The master's nonces are even, the slave's odd; 0 is none."""
NO_SID: Sid = (0, 0)

UNITS_PER_CHUNK = 16
"""Room for a chunk's one-use units: two halves for each of up to seven slots, and the chunk as a whole."""
WORDS_PER_UNIT = 8


class Record(NamedTuple):
    """One entry of the link log."""

    kind: str  # STORE OPEN CLOSE EPOCH VOID
    chunk: int = 0  # VOID: a bit set of chunks
    detail: int = 0  # OPEN: the direction, named by its sender; EPOCH: the slot
    sid: Sid = NO_SID  # EPOCH: the session that alone may use the slot

    def __str__(self) -> str:
        if self.kind == "OPEN":
            return f"OPEN({self.chunk},{NAMES[self.detail]}->)"
        if self.kind == "EPOCH":
            return f"EPOCH({self.chunk}.{self.detail},{self.sid[0]}/{self.sid[1]})"
        if self.kind == "VOID":
            return f"VOID({','.join(str(c) for c in chunks_of(self.chunk))})"
        return f"{self.kind}({self.chunk})"


class Word(NamedTuple):
    """One word of a direction's stream: what it is, and the record that gave it to the stream."""

    bit: int  # the word's own bit
    unit: int  # the bit of the slot half or chunk that it belongs to
    chunk: int
    opened_by: int  # the index of the OPEN or EPOCH record


def chunks_of(mask: int) -> Iterator[int]:
    """The chunks in a bit set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Shape(NamedTuple):
    """The sizes of the modelled key: they are fixed for a run, and logs are read by them."""

    slots: int = 4  # slots of an epoch chunk
    starters: int = 3  # tag masks in each half of a slot
    words: int = 2  # words of a chunk that is opened


class Log:
    """A link log, interned: equal logs are one object, so comparison and hashing cost nothing.

    The facts that the rules ask of a log are worked out once, when it is first seen.
    """

    shape: ClassVar[Shape] = Shape()
    _all: ClassVar[dict[tuple[Record, ...], Log]] = {}

    __slots__ = ("_next", "dead", "epoch", "live", "named", "opened", "records", "slots", "stored", "streams")

    def __init__(self, records: tuple[Record, ...]) -> None:
        self.records = records
        self.stored = 0  # stored and never used: these may be opened or become epoch chunks
        self.opened = 0
        self.dead = 0  # closed or void: the files are wiped
        self.slots: dict[int, int] = {}  # epoch chunk -> bit set of the slots named
        self.epoch: int = -1  # index of the last EPOCH
        for index, r in enumerate(records):
            bit = 1 << r.chunk
            if r.kind == "STORE":
                self.stored |= bit
            elif r.kind == "OPEN":
                self.stored &= ~bit
                self.opened |= bit
            elif r.kind == "EPOCH":
                self.stored &= ~bit
                self.slots[r.chunk] = self.slots.get(r.chunk, 0) | 1 << r.detail
                self.epoch = index
            else:
                gone = r.chunk if r.kind == "VOID" else bit
                self.stored &= ~gone
                self.opened &= ~gone
                self.dead |= gone
        epochs = sum(1 << c for c in self.slots) & ~self.dead
        self.live = self.stored | self.opened | epochs
        self.named = self.live | self.dead
        self.streams = (self._stream(MASTER), self._stream(SLAVE))
        self._next: dict[Record, Log] = {}

    def _stream(self, direction: int) -> tuple[Word, ...]:
        """The direction's words in the last epoch: the slot's starters, then the opened chunks in log order.

        A chunk opened before the EPOCH and not void would be in it too: the product need not look so far
        back, but the model must not hide what VOID is for.
        """
        if self.epoch < 0:
            return ()
        e = self.records[self.epoch]
        out: list[Word] = []

        def add(chunk: int, unit: int, words: int, index: int) -> None:
            place = chunk * UNITS_PER_CHUNK + unit
            for j in range(words):
                out.append(Word(1 << (place * WORDS_PER_UNIT + j), 1 << place, chunk, index))

        add(e.chunk, 2 * e.detail + direction, self.shape.starters, self.epoch)
        for index, r in enumerate(self.records):
            if r.kind == "OPEN" and r.detail == direction and (index > self.epoch or self.opened >> r.chunk & 1):
                add(r.chunk, UNITS_PER_CHUNK - 1, self.shape.words, index)
        return tuple(out)

    @classmethod
    def of(cls, records: tuple[Record, ...]) -> Log:
        """The one log with these records."""
        log = cls._all.get(records)
        if log is None:
            log = cls._all[records] = cls(records)
        return log

    @classmethod
    def use_shape(cls, shape: Shape) -> None:
        """Set the sizes of a run; logs read by other sizes are forgotten."""
        cls.shape = shape
        cls._all = {}

    def plus(self, record: Record) -> Log:
        """This log with one record more."""
        log = self._next.get(record)
        if log is None:
            log = self._next[record] = self.of((*self.records, record))
        return log

    def cut(self, length: int) -> Log:
        """The first records of this log."""
        return self if length >= len(self.records) else self.of(self.records[:length])

    def __len__(self) -> int:
        return len(self.records)

    def begins(self, other: Log) -> bool:
        """Whether this log is a prefix of the other."""
        return other.cut(len(self.records)) is self

    def __str__(self) -> str:
        return "[" + " ".join(str(r) for r in self.records) + "]"

    __repr__ = __str__


class Init(NamedTuple):
    """Hello: I have left every session; here is my nonce."""

    sender: int
    n: int
    kind: str = "INIT"


class Chal(NamedTuple):
    """The answer to INIT(n): prove that n is yours and fresh by answering c."""

    sender: int
    c: int
    n: int
    kind: str = "CHAL"


class Resp(NamedTuple):
    """The proof."""

    sender: int
    n: int
    c: int
    kind: str = "RESP"


class LogState(NamedTuple):
    """LOGSTATE, RECORD and ACK of SYNC in one: all say "in this session my durable log is this".

    The product sends lengths, digests and the records that the peer lacks; the receiver here takes over one
    record at a time as it would there.
    """

    sender: int
    sid: Sid
    log: Log
    missing: int  # live chunks of that log whose block files the sender does not hold
    kind: str = "LOGSTATE"


class Content(NamedTuple):
    """What a sealed packet carries."""

    kind: str  # CONFIRM RECORD ACK OFFER DATA SKIP
    number: int = 0  # CONFIRM, ACK: log length; RECORD: index; OFFER: blocks; SKIP: the position given up
    record: Record | None = None
    received: int = 0  # ACK: the positions that the slave received or was told to skip
    missing: int = 0  # ACK: as in LOGSTATE


class Packet(NamedTuple):
    """A sealed packet: its tag is made with the H of (chunk, slot) and the mask `word`."""

    sender: int
    epoch: tuple[int, int]
    position: int
    word: int
    content: Content
    kind: str = "PACKET"


Message = Init | Chal | Resp | LogState | Packet


class End(NamedTuple):
    """One end: the disk first, then what is volatile."""

    log: Log
    held: int  # block files on disk
    rolled: int = 0  # how often this disk was rolled back (a ghost: the end does not know)
    pending: int = 0  # 1: the log's last record is written but not yet synced
    mark: int = 0  # only for the planted flaw "mask by durable mark"
    mode: int = INIT
    n: int = 0  # my outstanding nonce, while in INIT
    c: int = 0  # my outstanding challenge
    sid: Sid = NO_SID
    acked: int = 0  # master: the length acknowledged in this session; slave: the length it last acknowledged
    missing: int = 0  # master: what the slave said it does not hold; slave: only for a planted flaw
    position: int = 0  # words of my stream taken
    received: int = 0  # positions of the peer's stream that I received or was told to skip
    known: int = 0  # master: positions that the slave said it received; slave: what it said last
    offer: int = 0  # slave: 1 when it has offered; master: the blocks offered
    back: int = 0  # 1: an EPOCH came in SYNC, and no session is up since

    @property
    def durable(self) -> int:
        """The number of records on disk for certain."""
        return len(self.log.records) - self.pending


class Budget(NamedTuple):
    """What the adversary has used up."""

    crashes: int = 0
    timers: int = 0
    skips: int = 0
    losses: int = 0


class State(NamedTuple):
    """The whole system, with two ghosts: spent units of dead sessions, and the adversary's budget."""

    master: End
    slave: End
    net: frozenset[Message]
    spent: int
    used: Budget

    def end(self, x: int) -> End:
        """The end of that role."""
        return self.master if x == MASTER else self.slave

    def with_end(self, x: int, e: End) -> State:
        """The state with one end replaced."""
        return self._replace(master=e) if x == MASTER else self._replace(slave=e)

    def send(self, *messages: Message) -> State:
        """The state with more messages in the network."""
        return self._replace(net=self.net.union(messages))


_fresh = count(1000)


def fresh_nonce(x: int) -> int:
    """A nonce never drawn before; renamed to a small number when the state is made canonical."""
    return 2 * next(_fresh) + x


def canonical(st: State, keep: frozenset[str]) -> State:
    """The representative of all states that differ only in dead messages and in the names of nonces."""
    master, slave, net = st.master, st.slave, st.net

    # The session of an EPOCH record matters while an end is in it.  No end enters it again (both of its
    # nonces were used up), and two logs that differ in it were reported when the second of the records was
    # written.
    master = master._replace(log=forget_sids(master.log, master.sid, slave.sid))
    slave = slave._replace(log=forget_sids(slave.log, master.sid, slave.sid))
    ends = (master, slave)

    kept: list[Message] = []
    for m in net:
        if isinstance(m, LogState):
            m = m._replace(log=forget_sids(m.log, master.sid, slave.sid))
        if m.kind in keep or alive(m, ends[m.sender], ends[1 - m.sender]):
            kept.append(m)
    if "LOGSTATE" not in keep:
        kept = newest(kept)

    names: dict[int, int] = {0: 0}
    counts = [2, 1]

    def name(nonce: int) -> None:
        if nonce not in names:
            names[nonce] = counts[nonce & 1]
            counts[nonce & 1] += 2

    for e in ends:
        name(e.n)
        name(e.c)
        name(e.sid[0])
        name(e.sid[1])
    rest = sorted({v for m in kept for v in nonces_of(m)})
    for v in rest:
        name(v)
    if any(k != v for k, v in names.items()):
        master, slave = rename_end(master, names), rename_end(slave, names)
        kept = [rename(m, names) for m in kept]
    return State(master, slave, frozenset(kept), st.spent, st.used)


def nonces_of(m: Message) -> tuple[int, ...]:
    """The nonces in a message."""
    if isinstance(m, Init):
        return (m.n,)
    if isinstance(m, Packet):
        return ()
    if isinstance(m, LogState):
        return m.sid
    return (m.n, m.c)


def rename_sid(sid: Sid, names: dict[int, int]) -> Sid:
    """The session under the new names."""
    return names.get(sid[0], sid[0]), names.get(sid[1], sid[1])


def rename_log(log: Log, names: dict[int, int]) -> Log:
    """The log under the new names: at most one of its EPOCH records still has a session."""
    if all(r.sid == NO_SID for r in log.records):
        return log
    return Log.of(tuple(r._replace(sid=rename_sid(r.sid, names)) for r in log.records))


def rename_end(e: End, names: dict[int, int]) -> End:
    """The end under the new names."""
    return e._replace(n=names[e.n], c=names[e.c], sid=rename_sid(e.sid, names), log=rename_log(e.log, names))


def rename(m: Message, names: dict[int, int]) -> Message:
    """The message under the new names."""
    if isinstance(m, Init):
        return m._replace(n=names[m.n])
    if isinstance(m, LogState):
        return m._replace(sid=rename_sid(m.sid, names), log=rename_log(m.log, names))
    if isinstance(m, Packet):
        return m
    return m._replace(n=names[m.n], c=names[m.c])


def forget_sids(log: Log, a: Sid, b: Sid) -> Log:
    """The log with the sessions of EPOCH records set to none unless an end is in them."""
    if all(r.sid in (NO_SID, a, b) for r in log.records):
        return log
    return Log.of(tuple(r if r.sid in (a, b) else r._replace(sid=NO_SID) for r in log.records))


def alive(m: Message, sender: End, to: End) -> bool:
    """Whether the message can still change anything at its receiver: nonces are never drawn again."""
    if isinstance(m, Init):
        return sender.n == m.n
    if isinstance(m, Chal):
        return to.n == m.n and sender.c == m.c
    if isinstance(m, Resp):
        return to.c == m.c
    if isinstance(m, LogState):
        return (to.sid == m.sid and to.mode == SYNC) or (to.n != 0 and to.n == m.sid[0])
    # A packet verifies only in the epoch that it was sealed in, and a position is opened once.
    if to.mode < SYNC or to.log.epoch < 0 or to.received >> m.position & 1:
        return False
    e = to.log.records[to.log.epoch]
    return m.epoch == (e.chunk, e.detail)


def newest(messages: list[Message]) -> list[Message]:
    """Without the older LOGSTATEs of the same sender and session.

    Delivering an older one now does what delivering it before the newer was sent would have done, and that
    run is explored too: in between the sender acted on its own or on something that the receiver sent later
    in that session.
    """
    best: dict[tuple[int, Sid], LogState] = {}
    for m in messages:
        if isinstance(m, LogState):
            other = best.get((m.sender, m.sid))
            if other is None or (len(m.log), m.missing) >= (len(other.log), other.missing):
                best[m.sender, m.sid] = m
    return [m for m in messages if not isinstance(m, LogState) or best[m.sender, m.sid] is m]
