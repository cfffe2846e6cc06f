"""The properties: A to D and F to H are checked on every state or spending, E on the whole graph.

A  No chunk word, starter mask or slot half serves two things.
B  A word is spent only if the record that opened it is durable at both ends (or was, before the peer's disk
   was rolled back: what a rollback takes away cannot be asked of it again).
C  The ends' logs never differ at an index.
D  No history in which at most one end's disk is rolled back quarantines.
E  A way back to UP exists while unused key that both hold is left, and in UP a way to open chunks for both
   sides.
F  An end leaves an UP session only if its peer has left it: replayed hellos neither void chunks nor take a
   link down.
G  An end spends only from chunks whose bytes it holds.
H  Bytes wiped at one end are never needed again by it or by the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from linklog_state import MASTER, NAMES, QUARANTINE, SLAVE, UP, End, Log, State, Word

if TYPE_CHECKING:
    from linklog_rules import Rules


class Violation(Exception):
    """A property does not hold."""

    def __init__(self, letter: str, text: str) -> None:
        super().__init__(f"{letter}: {text}")
        self.letter = letter


def fail(letter: str, text: str) -> None:
    """Report a violation."""
    raise Violation(letter, text)


def check_spend(rules: Rules, st: State, x: int, word: Word, e: End) -> None:
    """A, B and G, when the end seals a packet with the word."""
    peer = st.end(1 - x)
    name = f"{NAMES[x]} seals position {e.position} with a word of chunk {word.chunk}"
    if word.unit & st.spent:
        fail("A", f"{name}, which an earlier session used")
    for y in (MASTER, SLAVE):
        if any(w.bit == word.bit for w in rules.taken(y, st.end(y))):
            fail("A", f"{name}, which {NAMES[y]} used in this session")
    record = e.log.records[word.opened_by]
    there = word.opened_by < peer.durable and peer.log.records[word.opened_by] == record
    if word.opened_by >= e.durable or not (there or peer.rolled):
        fail("B", f"{name}, while {record} is not durable at both ends")
    if not e.held >> word.chunk & 1:
        fail("G", f"{name}, which it does not hold")


def check_wipe(st: State, x: int, chunks: int) -> None:
    """H, when the end wipes block files: nobody may still spend or open with them in a session that lives."""
    a, b = st.master, st.slave
    if a.sid != b.sid or a.mode != UP or b.mode != UP:
        return
    for y in (MASTER, SLAVE):
        sender, receiver = st.end(y), st.end(1 - y)
        for position, word in enumerate(sender.log.streams[y]):
            if chunks >> word.chunk & 1:
                if position >= sender.position:
                    fail("H", f"{NAMES[x]} wipes chunk {word.chunk}, of which {NAMES[y]} has words to spend")
                if not receiver.received >> position & 1:
                    fail("H", f"{NAMES[x]} wipes chunk {word.chunk} before {NAMES[1 - y]} opened {position}")


def check_state(st: State) -> None:
    """A, C and D, on every state."""
    a, b = st.master, st.slave
    rolled_both = a.rolled and b.rolled
    if QUARANTINE in (a.mode, b.mode):
        if not rolled_both:
            fail("D", f"quarantine: {a.log} and {b.log}")
        return
    if not a.log.begins(b.log) and not b.log.begins(a.log) and not rolled_both:
        fail("C", f"the logs differ: {a.log} and {b.log}")
    for x in (MASTER, SLAVE):
        e = st.end(x)
        if e.mode != UP:
            continue
        for d in (MASTER, SLAVE):
            for word in e.log.streams[d]:
                if word.unit & st.spent and st.end(1 - x).sid == e.sid:
                    fail("A", f"{NAMES[x]} is up with chunk {word.chunk}, of which an earlier session spent")


# --- E: what must remain reachable ---


def is_up(st: State) -> bool:
    """Both ends are up in one session."""
    return st.master.mode == UP == st.slave.mode and st.master.sid == st.slave.sid


def longer(st: State) -> Log:
    """The log that knows more."""
    a, b = st.master.log, st.slave.log
    return a if len(a) >= len(b) else b


def both_hold(st: State) -> int:
    """The chunks whose bytes both ends have, and will not take for those of another life (rule 6)."""
    log, lost = longer(st), 0
    for x in (MASTER, SLAVE):
        e = st.end(x)
        back = bool(e.back) or x == MASTER
        for r in log.records[len(e.log) :]:
            back = back or r.kind == "EPOCH"
            if back and r.kind == "STORE":
                lost |= 1 << r.chunk
    return st.master.held & st.slave.held & ~lost


def slot_left(rules: Rules, st: State) -> bool:
    """Whether an epoch chunk that both hold has a slot that nothing named."""
    log = longer(st)
    both = both_hold(st) & log.live
    every = (1 << rules.config.shape.slots) - 1
    return any(both >> c & 1 and named != every for c, named in log.slots.items())


def may_come_up(rules: Rules, st: State) -> bool:
    """Whether an unused slot is left, or an unused chunk that may give slots, and both hold it."""
    a, b = st.master, st.slave
    if QUARANTINE in (a.mode, b.mode):
        return False
    return slot_left(rules, st) or bool(both_hold(st) & longer(st).stored)


def can_talk(rules: Rules, st: State) -> bool:
    """Both ends are up, each with a chunk opened in this session and a word left for the next record."""
    if not is_up(st):
        return False
    for x in (MASTER, SLAVE):
        e = st.end(x)
        stream = e.log.streams[x]
        if not any(w.opened_by > e.log.epoch for w in stream) or rules.usable(x, e) <= e.position:
            return False
    return True


def may_talk(rules: Rules, st: State) -> bool:
    """Whether enough unused chunks are left to be of use: one for each direction, besides a slot."""
    if not may_come_up(rules, st):
        return False
    a, b = st.master, st.slave
    log, both, up = longer(st), both_hold(st), is_up(st)
    fresh = both & ~log.named  # still in the pickup stores
    if up and b.offer:
        fresh &= a.offer
    session = log.records[log.epoch + 1 :] if up else ()
    opened = sum(r.kind == "OPEN" for r in session)
    needed = 2 if up or slot_left(rules, st) else 3
    unused = bin(both & log.stored | fresh).count("1")
    return unused >= needed and rules.config.opens - opened >= 2
