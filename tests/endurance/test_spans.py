"""That the listener sees each misuse of key that the wire can show, and none where there is none."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import pytest

from appliance.q3p.messages import Confirm, HelloRecords, LogStateMessage, Records, pack_control, seal_hello
from appliance.q3p.records import BlockEntry, BlockName, Direction, Epoch, Open, SessionId, Store, encode

from .spans import AUTHENTICATED, ENCRYPTED, HEADER, PREAMBLE_BYTES, TAG_BYTES, LinkSpans

MASTER, SLAVE = Direction.MASTER_TO_SLAVE, Direction.SLAVE_TO_MASTER
BLOCK_BYTES = 512
WORDS = 14 + BLOCK_BYTES // 8
SESSIONS = [SessionId(bytes([n]) * 16, bytes([n + 1]) * 16) for n in (1, 3)]
HELLO_MAC = bytes(32)


def sealed(first: int, text: bytes, padded: int = 0, channel: int = 2) -> bytes:
    """A packet whose mask lies behind its pad, as a sender makes it. The padded bytes stand at the end of the text."""
    clear = PREAMBLE_BYTES + len(text) - padded
    length = HEADER.size + PREAMBLE_BYTES + len(text) + TAG_BYTES
    flags = AUTHENTICATED | (ENCRYPTED if padded else 0) | 3
    command = 4 if channel == 0 else 1
    head = HEADER.pack(length, clear, 1, flags, command, channel, first, first + (padded + 7) // 8)
    return head + bytes(PREAMBLE_BYTES) + text + bytes(TAG_BYTES)


class Pair:
    """A link's wire, on which whatever is said is heard."""

    def __init__(self) -> None:
        self.spans = LinkSpans("line")
        self.log: list[bytes] = []
        for number in range(4):
            entry = BlockEntry(BlockName(0, number), BLOCK_BYTES)
            self.log.append(encode(Store(number, (entry,))))

    def session(self, number: int, slot: int) -> None:
        """A hello up to CONFIRM, and a chunk for each direction."""
        session = SESSIONS[number]
        self.log.append(encode(Epoch(0, slot, session)))
        for sender in (MASTER, SLAVE):
            state = LogStateMessage(session, 0, bytes(32), False, ())
            self.spans.packet(sender, seal_hello(state, 1, sender is MASTER, lambda data: HELLO_MAC))
        records = HelloRecords(session, 0, bytes(32), tuple(self.log))
        self.spans.packet(MASTER, seal_hello(records, 1, True, lambda data: HELLO_MAC))
        for sender in (MASTER, SLAVE):
            confirm = Confirm(session, len(self.log), bytes(32))
            self.spans.packet(sender, sealed(0, pack_control(confirm), channel=0))

    def open(self, first_word: int, chunk: int, direction: Direction) -> None:
        self.record(first_word, encode(Open(chunk, direction)))

    def record(self, first_word: int, record: bytes) -> None:
        message = Records(len(self.log), (record,))
        self.log.append(record)
        self.spans.packet(MASTER, sealed(first_word, pack_control(message), channel=0))


@pytest.fixture
def pair() -> Pair:
    made = Pair()
    made.session(0, 0)
    made.open(2, 1, MASTER)
    made.open(4, 2, SLAVE)
    assert made.spans.violations == []
    return made


def test_nothing_is_wrong_with_a_link_that_keeps_the_rules(pair: Pair) -> None:
    data = sealed(6, b"to the slave" + bytes(32), padded=32)
    for packet in (data, sealed(12, b"more"), data):  # the last is a retransmission
        pair.spans.packet(MASTER, packet)
    pair.spans.packet(SLAVE, sealed(2, b"to the master"))
    pair.session(1, 1)
    pair.spans.packet(MASTER, sealed(2, b"in a new session words begin anew"))
    assert pair.spans.violations == []
    assert pair.spans.figures["words"] == 2 + 2 + 2 + 2 + 6 + 2 + 2 + 2 + 2 + 2
    assert pair.spans.figures["resent"] == 1 and not pair.spans.figures["unplaced"]


def reused(pair: Pair) -> None:
    pair.spans.packet(MASTER, sealed(6, b"one"))
    pair.spans.packet(MASTER, sealed(6, b"two"))


def overlapping(pair: Pair) -> None:
    pair.spans.packet(MASTER, sealed(6, bytes(40), padded=32))
    pair.spans.packet(MASTER, sealed(8, b"the mask of this is pad of that"))


def retagged(pair: Pair) -> None:
    """The same packet with another tag."""
    packet = sealed(6, b"one")
    pair.spans.packet(MASTER, packet)
    pair.spans.packet(MASTER, packet[:-1] + b"\1")


def resent_in_a_new_session(pair: Pair) -> None:
    pair.session(1, 1)
    pair.spans.packet(MASTER, sealed(2, b"new"))
    pair.spans.packet(MASTER, sealed(2, b"old"))


def not_given(pair: Pair) -> None:
    pair.spans.packet(SLAVE, sealed(WORDS, b"beyond the chunk"))


def chunk_for_both_directions(pair: Pair) -> None:
    pair.open(6, 1, SLAVE)


def chunk_of_an_old_session(pair: Pair) -> None:
    pair.session(1, 1)
    pair.open(2, 1, MASTER)


def slot_twice(pair: Pair) -> None:
    pair.session(1, 0)


def epoch_chunk_opened(pair: Pair) -> None:
    pair.open(6, 0, MASTER)


def block_stored_twice(pair: Pair) -> None:
    pair.record(6, encode(Store(4, (BlockEntry(BlockName(0, 3), BLOCK_BYTES),))))


def log_changed(pair: Pair) -> None:
    pair.log[-1] = encode(Open(3, SLAVE))
    pair.session(1, 1)


def wrong_confirm(pair: Pair) -> None:
    confirm = Confirm(SESSIONS[1], 1, bytes(32))
    pair.spans.packet(SLAVE, sealed(2, pack_control(confirm), channel=0))


MISUSES: list[tuple[Callable[[Pair], None], str]] = [
    (reused, "served another packet already"),
    (overlapping, "words 8 to 9 .* served another packet already"),
    (retagged, "served another packet already"),
    (resent_in_a_new_session, "served another packet already"),
    (not_given, "the log gave it 78 so far"),
    (chunk_for_both_directions, "OPEN of chunk 1, which serves something already"),
    (chunk_of_an_old_session, "OPEN of chunk 1, which serves something already"),
    (slot_twice, "EPOCH names slot 0 of chunk 0, or its session, a second time"),
    (epoch_chunk_opened, "OPEN of chunk 0, which serves something already"),
    (block_stored_twice, "STORE of chunk 4 takes a block"),
    (log_changed, "record 6 is .* and was"),
    (wrong_confirm, "CONFIRM names another session"),
]


@pytest.mark.parametrize(("misuse", "told"), MISUSES, ids=[misuse.__name__ for misuse, _ in MISUSES])
def test_each_misuse_is_seen(pair: Pair, misuse: Callable[[Pair], None], told: str) -> None:
    misuse(pair)
    assert pair.spans.violations and re.search(told, pair.spans.violations[0])


def test_a_packet_that_cannot_be_read_is_told(pair: Pair) -> None:
    pair.spans.packet(MASTER, sealed(6, b"\2" + struct.pack(">Q", 0) + b"\0\7x", channel=0))
    assert "cannot be read" in pair.spans.violations[0]


def test_a_listener_that_missed_a_record_waits_for_the_log_file(pair: Pair) -> None:
    missed = encode(Open(3, SLAVE))
    pair.log.append(missed)
    pair.record(6, encode(Store(4, (BlockEntry(BlockName(0, 9), BLOCK_BYTES),))))
    assert pair.spans.gap
    pair.spans.packet(SLAVE, sealed(WORDS, b"by the record that was not heard"))
    assert pair.spans.violations == []
    pair.spans.begin(pair.log)
    assert not pair.spans.gap
    pair.spans.packet(SLAVE, sealed(WORDS + 2, b"another"))
    assert pair.spans.violations == []
