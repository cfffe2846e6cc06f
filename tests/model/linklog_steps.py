"""All that can happen next in a state: deliveries, what an end may do unasked, and the adversary's moves.

Each step is (text, next state, helpful).  Helpful steps are those that a network which delivers and ends
which do not crash would take; property E asks for a way to UP by helpful steps alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from linklog_rules import Rules
from linklog_state import (
    INIT,
    MASTER,
    NAMES,
    QUARANTINE,
    SLAVE,
    SYNC,
    UP,
    Content,
    End,
    LogState,
    Message,
    Packet,
    Record,
    State,
    chunks_of,
)

Step = tuple[str, State, bool]


def describe(m: Message) -> str:
    """A message for a trace."""
    if isinstance(m, LogState):
        missing = f" not held {list(chunks_of(m.missing))}" if m.missing else ""
        return f"LOGSTATE({m.sid[0]}/{m.sid[1]}) {m.log}{missing}"
    if isinstance(m, Packet):
        what = m.content.record or m.content.number or ""
        return f"sealed {m.content.kind} {what} at {m.position}"
    return f"{m.kind}({', '.join(str(v) for v in m[1:-1])})"


def steps(rules: Rules, st: State) -> Iterator[Step]:
    """Every step from the state."""
    # Sorted only for the sake of the same trace every time: it does not matter to the set of states.
    for m in sorted(st.net, key=repr) if rules.config.flaws else st.net:
        after = rules.deliver(st, m)
        if after is not None:
            yield f"{NAMES[1 - m.sender]} receives {describe(m)}", after, True
    for x in (MASTER, SLAVE):
        e = st.end(x)
        if e.mode == QUARANTINE:
            continue
        if e.pending:
            synced = st.with_end(x, e._replace(pending=0))
            if rules.flaw("answers_before_sync"):
                yield f"{NAMES[x]} synced", synced, True
            else:
                yield f"{NAMES[x]} synced {e.log.records[-1]}", after_sync(rules, synced, x), True
        if e.mode == UP and (not e.pending or rules.flaw("answers_before_sync")):
            yield from up_steps(rules, st, x)
        if e.mode == SYNC and not e.pending:
            yield from timer_steps(rules, st, x)
        yield from crash_steps(rules, st, x)


def after_sync(rules: Rules, st: State, x: int) -> State:
    """What waited for the sync; the master in SYNC goes on if the slave has shown this very log."""
    st = rules.after_append(st, x)
    e = st.end(x)
    if x == MASTER and e.mode == SYNC and e.acked == len(e.log):
        st = rules.proceed(st)
    return st


def up_steps(rules: Rules, st: State, x: int) -> Iterator[Step]:
    """What an end does unasked while it is up."""
    config = rules.config
    e = st.end(x)
    stream = e.log.streams[x]
    left = rules.usable(x, e) - e.position
    if x == MASTER and left > 0:
        for record in master_records(rules, e, left):
            yield f"M writes {record}", rules.append(st, MASTER, record), True
    if x == SLAVE:
        if not e.offer and left >= (1 if rules.flaw("no_reserve") else 2):
            blocks = e.held & ~e.log.named
            if blocks:
                offered = st.with_end(x, e._replace(offer=1))
                yield (
                    f"S offers {list(chunks_of(blocks))}",
                    rules.spend(offered, x, Content("OFFER", blocks)),
                    True,
                )
        after = rules.acknowledge(st)
        if after is not st:
            yield "S acknowledges", after, True
    opened = stream[rules.usable(x, e) - 1].opened_by != e.log.epoch
    reserve = 2 if x == MASTER and not rules.flaw("one_word_reserve") else 1
    if rules.flaw("no_reserve"):
        reserve = 0
    if config.data and left > reserve and opened:
        yield f"{NAMES[x]} sends data at {e.position}", rules.spend(st, x, Content("DATA")), True
    if st.used.skips < config.skips and left > reserve:
        used = st.used._replace(skips=st.used.skips + 1)
        for m in st.net:
            if isinstance(m, Packet) and m.sender == x and m.content.kind == "DATA":
                skip = Content("SKIP", m.position)
                yield f"{NAMES[x]} gives up {m.position}", rules.spend(st._replace(used=used), x, skip), False
    if rules.flaw("confirm_rebuilt") and x == MASTER and e.log.epoch < len(e.log) - 1:
        # The record that CONFIRM names has a successor by now: "resent" with the log's state of today.
        again = rules.seal(st, x, e, stream[0], 0, Content("CONFIRM", len(e.log)))
        yield "M rebuilds CONFIRM", again, True
    if rules.flaw("record_reassigned") and x == MASTER and e.acked < len(e.log) and left > 0:
        last = e.log.records[-1]
        if last.kind == "OPEN":
            other = last._replace(detail=1 - last.detail)
            back = st.with_end(x, e._replace(log=e.log.cut(len(e.log) - 1)))
            yield f"M writes {other} in place of {last}", rules.append(back, x, other), True


def master_records(rules: Rules, e: End, left: int) -> Iterator[Record]:
    """The records that the master may write with the words it has left (rule 12).

    A stream without words can never get any, since the record that would give it some, and that record's
    acknowledgement, cost a word each.  So the last words of both streams are kept for just that.
    """
    log = e.log
    opens = [(i, r) for i, r in enumerate(log.records) if r.kind == "OPEN" and i > log.epoch]
    # The slave keeps one word to acknowledge an OPEN toward the master.  It has one for certain if it was
    # given a chunk (or the slot's starters) after the last such OPEN.
    slave_can_answer = not opens or opens[-1][1].detail == SLAVE
    master_waits = any(r.detail == MASTER and i >= e.acked for i, r in opens)
    if len(opens) < rules.config.opens:
        chunk = next(chunks_of(log.stored & e.held & ~e.missing), None)
        if chunk is not None:
            if left >= 2 or slave_can_answer or rules.flaw("one_word_reserve"):
                yield Record("OPEN", chunk, MASTER)
            if left >= 2 or master_waits or rules.flaw("no_reserve"):
                yield Record("OPEN", chunk, SLAVE)
    if left >= (1 if rules.flaw("no_reserve") else 2 if rules.flaw("one_word_reserve") else 3):
        block = next(chunks_of(e.offer & e.held & ~log.named), None)
        if block is not None:
            yield Record("STORE", block)
        if rules.config.close:
            for chunk in chunks_of(log.opened):
                if both_done(rules, e, chunk):
                    yield Record("CLOSE", chunk)


def both_done(rules: Rules, e: End, chunk: int) -> bool:
    """Whether the master knows that the sender spent the whole chunk and the receiver needs no word of it."""
    done = False
    for direction, known in ((MASTER, e.known), (SLAVE, e.received)):
        for position, word in enumerate(e.log.streams[direction]):
            if word.chunk == chunk:
                done = True
                if direction == MASTER and position >= e.position:
                    return False
                if not known >> position & 1 and not rules.flaw("closes_early"):
                    return False
                if rules.flaw("closes_early") and direction == SLAVE and not known >> position & 1:
                    return False
    return done


def timer_steps(rules: Rules, st: State, x: int) -> Iterator[Step]:
    """Rule 11.  Needed when the peer is not in this session and cannot enter it; blind at any other time."""
    e, peer = st.end(x), st.end(1 - x)
    if rules.epoch(e) or rules.flaw("no_sync_timer"):
        return
    needed = peer.sid != e.sid and peer.n != e.sid[0] and peer.mode != INIT
    if needed:
        yield f"{NAMES[x]}'s SYNC timer", rules.boot(st, x, e), True
    elif st.used.timers < rules.config.timers:
        used = st.used._replace(timers=st.used.timers + 1)
        yield f"{NAMES[x]}'s SYNC timer fires blindly", rules.boot(st._replace(used=used), x, e), False


def crash_steps(rules: Rules, st: State, x: int) -> Iterator[Step]:
    """Crash, failed sync, torn write, rollback, and loss of a block file."""
    config, e, who = rules.config, st.end(x), NAMES[x]
    if st.used.losses < config.losses:
        used = st.used._replace(losses=st.used.losses + 1)
        for chunk in chunks_of(e.held & ~e.log.opened & ~sum(1 << c for c in e.log.slots)):
            lost = e._replace(held=e.held & ~(1 << chunk))
            yield f"{who} loses the file of chunk {chunk}", st._replace(used=used).with_end(x, lost), False
    if st.used.crashes >= config.crashes:
        return
    st = st._replace(used=st.used._replace(crashes=st.used.crashes + 1))
    length = len(e.log)
    if e.pending:
        # The write may be on disk or not (a failed sync leaves the same two), or torn.
        yield f"{who} crashes, its last record on disk", rules.boot(st, x, e), False
        absent = e._replace(log=e.log.cut(length - 1))
        yield f"{who} crashes, its last record not on disk", rules.boot(st, x, absent), False
        if rules.flaw("torn_tail_kept"):
            torn = absent._replace(log=absent.log.plus(Record("TORN")))
            yield f"{who} crashes, its last record torn", rules.boot(st, x, torn), False
    else:
        yield f"{who} crashes", rules.boot(st, x, e), False
    rolled = st.master.rolled + st.slave.rolled
    if rolled < config.rolls and x in config.roll_ends:
        every = config.held[x]
        for back in range(length + 1):
            if back < len(config.log):
                continue  # what both ends were installed with is not taken back
            for held in subsets(every):
                if (back, held) == (length, e.held):
                    continue
                disk = e._replace(log=e.log.cut(back), held=held, rolled=e.rolled + 1)
                text = f"{who} crashes, rolled back to {back} records and chunks {list(chunks_of(held))}"
                for mark in range(e.mark + 1):
                    yield text, rules.boot(st, x, disk._replace(mark=mark)), False


def subsets(mask: int) -> Iterator[int]:
    """All subsets of a bit set."""
    sub = mask
    while True:
        yield sub
        if not sub:
            return
        sub = (sub - 1) & mask
