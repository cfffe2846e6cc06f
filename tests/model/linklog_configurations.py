"""What is explored: the sound rules in several dimensions, and the planted flaws.

One configuration with every dimension at once would not fit, and would not tell more: crashes, rollback and
replay work on sessions, while CLOSE, SKIP and reserves work within one.  So each configuration switches on
what can meet. Chunk 0 becomes the epoch chunk when the first session starts, except where the text says
otherwise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from linklog_rules import Config
from linklog_state import MASTER, SLAVE, Record, Shape


def stored(chunks: int) -> tuple[Record, ...]:
    """A log in which that many chunks are stored and unused."""
    return tuple(Record("STORE", c) for c in range(chunks))


THREE = Config("three chunks", log=stored(3), held=(7, 7))
FOUR = Config("four chunks", log=stored(4), held=(15, 15))
FIVE = Config("five chunks", log=stored(5), held=(31, 31), opens=4)
PICKUP = Config("one chunk stored, two blocks in the pickup stores", log=stored(1), held=(7, 7), shape=Shape(4, 4, 2))

STANDARD = (
    replace(THREE, name="two crashes, data", crashes=2),
    replace(THREE, name="three crashes", crashes=3, data=False),
    replace(THREE, name="rollback of either end, data", crashes=1, rolls=1),
    replace(THREE, name="two crashes, one with a rollback", crashes=2, rolls=1, data=False),
    replace(THREE, name="blind SYNC timer, twice, and a crash", crashes=1, timers=2, data=False),
    replace(THREE, name="blind SYNC timer and two crashes", crashes=2, timers=1, data=False),
    replace(THREE, name="torn writes and failed syncs", crashes=2, torn=True, data=False),
    replace(THREE, name="torn writes and a rollback", crashes=1, rolls=1, torn=True, data=False),
    replace(PICKUP, name="STORE, crash", crashes=1),
    replace(PICKUP, name="STORE, rollback", crashes=1, rolls=1, data=False),
    replace(PICKUP, name="STORE, a file lost, crash", crashes=1, losses=1, data=False),
    replace(PICKUP, name="STORE, a block at the master only", held=(7, 3), crashes=1, rolls=1, data=False),
    replace(PICKUP, name="STORE, a block at the slave only", held=(3, 7), crashes=1, rolls=1, data=False),
    replace(FOUR, name="several OPENs, CLOSE", close=True, opens=3, shape=Shape(4, 3, 3)),
    replace(FOUR, name="CLOSE and a packet given up", close=True, opens=2, skips=1, shape=Shape(4, 3, 4)),
    replace(FOUR, name="CLOSE and a crash", close=True, opens=2, crashes=1, shape=Shape(4, 3, 3)),
    replace(FIVE, name="reserves, streams of two-word chunks"),
)

LARGE = (
    replace(THREE, name="two crashes, one with a rollback, data", crashes=2, rolls=1),
    replace(THREE, name="four crashes", crashes=4, data=False, shape=Shape(5, 3, 2)),
    replace(THREE, name="two blind timers and two crashes, data", crashes=2, timers=2),
    replace(FOUR, name="the epoch chunk's file lost by a rollback", crashes=2, rolls=1, data=False),
    replace(PICKUP, name="STORE, rollback, another crash", crashes=2, rolls=1, data=False),
    replace(FOUR, name="CLOSE, rollback", close=True, crashes=1, rolls=1, shape=Shape(4, 3, 3)),
    replace(FIVE, name="reserves, streams of three-word chunks", shape=Shape(4, 3, 3)),
    replace(FOUR, name="torn writes, CLOSE, crash", close=True, torn=True, crashes=1, shape=Shape(4, 3, 3)),
)

ALL_KINDS = frozenset({"INIT", "CHAL", "RESP", "LOGSTATE", "PACKET"})
UNPRUNED = replace(THREE, name="nothing ever leaves the network", crashes=1, data=False, keep=ALL_KINDS)
BOTH_ROLLED = replace(THREE, name="both disks rolled back", crashes=2, rolls=2)


def planted(base: Config, flaws: str, **changes: Any) -> Config:
    """The configuration with a rule planted wrong, or two where either alone would do."""
    return replace(base, name=flaws, flaws=frozenset(flaws.split()), **changes)


FLAWS: tuple[tuple[str, str, Config], ...] = (
    ("C", "the master reassigns a chunk after a lost acknowledgement", planted(THREE, "record_reassigned")),
    ("B", "the master spends a chunk before the OPEN is acknowledged", planted(THREE, "spends_before_ack")),
    ("B", "the master confirms before the EPOCH is acknowledged", planted(THREE, "confirms_before_ack")),
    (
        "B",
        "records are sent and acknowledged before the sync",
        planted(THREE, "answers_before_sync", torn=True),
    ),
    (
        "C",
        "records are not bound to a session",
        planted(THREE, "records_not_bound", crashes=1, rolls=1, keep=frozenset({"LOGSTATE"})),
    ),
    ("A", "CONFIRM is rebuilt on resend", planted(THREE, "confirm_rebuilt")),
    ("A", "EPOCH does not name its session", planted(THREE, "epoch_without_session", crashes=1)),
    ("A", "no VOID after a restart", planted(THREE, "no_void", crashes=1)),
    (
        "A",
        "CONFIRM's mask by a durable mark",
        planted(THREE, "mask_by_durable_mark", crashes=2, rolls=1, data=False),
    ),
    ("A", "the slot by a counter in memory", planted(THREE, "slot_by_volatile_counter", crashes=1)),
    ("A", "the challenge outlives its session", planted(THREE, "challenge_kept", crashes=1)),
    (
        "F",
        "the initiator's own challenge outlives its hello",
        planted(THREE, "initiators_challenge_kept", crashes=2, data=False),
    ),
    (
        "C",
        "the log is read while the old session is accepted",
        planted(THREE, "log_read_before_entry", crashes=1, rolls=1),
    ),
    ("E", "no SYNC timer", planted(THREE, "no_sync_timer", crashes=2, data=False)),
    (
        "F",
        "one message type for asking and answering",
        planted(THREE, "one_hello_type", crashes=1, keep=frozenset({"INIT", "CHAL"})),
    ),
    ("F", "a hello alone ends a session", planted(THREE, "init_takes_down", keep=frozenset({"INIT"}))),
    (
        "H",
        "CLOSE before the receiver is done",
        planted(FOUR, "closes_early", close=True, opens=3, shape=Shape(4, 4, 3)),
    ),
    (
        "G",
        "an end serves a session although a file of it is lost",
        planted(PICKUP, "serves_without_file", losses=1),
    ),
    (
        "G",
        "chunks not held are not reported",
        planted(THREE, "not_held_not_reported serves_without_file", crashes=1, rolls=1),
    ),
    (
        "G",
        "chunks not held are read once, at the session's start",
        planted(PICKUP, "missing_read_at_entry serves_without_file", crashes=1, rolls=1, data=False),
    ),
    ("C", "a torn tail is kept", planted(THREE, "torn_tail_kept", crashes=1, torn=True)),
    ("E", "no reserve of words for the next record", planted(FIVE, "no_reserve")),
    ("E", "one word in reserve at each end", planted(FIVE, "one_word_reserve")),
    (
        "E",
        "three starter masks, though a STORE comes first",
        replace(PICKUP, name="three starters", shape=Shape(4, 3, 2)),
    ),
)
"""(property that must fail, what is wrong, configuration)"""

FAIR = replace(THREE, name="fair scheduler", crashes=1, timers=1, data=False, shape=Shape(7, 3, 2))
FAIR_ROLLED = replace(FAIR, name="fair scheduler, rollback", timers=0, rolls=1, roll_ends=(MASTER, SLAVE))
