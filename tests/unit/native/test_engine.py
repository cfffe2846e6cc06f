"""Two Engines over a channel that a schedule makes as bad as it likes: what must hold whatever happens.

The probe build tells which key words each call used. Words are random and 64 bits wide, so a word's value names it:
none may ever serve two packets, and what the receiver opens must be what the sender sealed with the same words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.native import _native, _native_probe
from appliance.native.link import (
    Cause,
    Channel,
    Command,
    Direction,
    Engine,
    LinkParams,
    LinkStats,
    Refused,
    Verdict,
)

HALF_BYTES = 128
MS = 1_000_000
PARAMS = LinkParams(
    link_id=7,
    master=True,
    queue_slots=16,
    flight_slots=16,
    window_words=512,
    give_up_tries=1_000_000,
    buffer_words=1024,
)
PAD_SEAL, MASK_SEAL, PAD_OPEN, MASK_OPEN, HASH_KEY = (
    _native_probe.lib.QBB_USE_PAD_SEAL,
    _native_probe.lib.QBB_USE_MASK_SEAL,
    _native_probe.lib.QBB_USE_PAD_OPEN,
    _native_probe.lib.QBB_USE_MASK_OPEN,
    _native_probe.lib.QBB_USE_HASH_KEY,
)
_log = _native_probe.ffi.new("uint8_t[]", 1 << 20)


def used_words() -> Iterator[tuple[int, bytes]]:
    """(use, word) of everything noted since the last call."""
    length = _native_probe.lib.qbb_probe_take(_log, 1 << 20)
    log = bytes(_native_probe.ffi.buffer(_log, length))
    at = 0
    while at < length:
        use, words = log[at], int.from_bytes(log[at + 2 : at + 4], "big")
        at += 4
        for _ in range(words):
            yield use, log[at : at + 8]
            at += 8


class Oracle:
    """What each key word covered, over all epochs."""

    def __init__(self) -> None:
        list(used_words())
        self.sealed: dict[bytes, tuple[int, bytes]] = {}
        self.opened: dict[bytes, bytes] = {}
        self.hash_keys: set[bytes] = set()

    def begun(self) -> None:
        for use, word in used_words():
            assert use == HASH_KEY
            assert word not in self.sealed
            self.hash_keys.add(word)

    def sent(self, packet: bytes) -> None:
        for use, word in used_words():
            assert use in (PAD_SEAL, MASK_SEAL)
            assert word not in self.sealed, "a key word covers two packets"
            assert word not in self.hash_keys
            self.sealed[word] = (use, packet)

    def received(self, packet: bytes, verdict: Verdict) -> None:
        words = list(used_words())
        genuine = verdict in (Verdict.DELIVER, Verdict.ABSORBED)
        assert bool(words) == genuine
        for use, word in words:
            assert word not in self.opened, "a key word opened two packets"
            assert self.sealed[word] == ({PAD_OPEN: PAD_SEAL, MASK_OPEN: MASK_SEAL}[use], packet)
            self.opened[word] = packet


class Pair:
    """Ends 0 (master) and 1, the datagrams under way from each, and what each submitted and got."""

    def __init__(self, params: LinkParams) -> None:
        self.ends = [Engine(replace(params, master=way == 0), _native_probe) for way in (0, 1)]
        self.oracle = Oracle()
        self.random = random.Random(1)
        self.now_ns = 0
        self.epoch = 0
        self.counter = 0
        self.begin()

    def begin(self) -> None:
        """A new epoch; datagrams of the old one stay under way."""
        if self.epoch == 0:
            self.wire: list[list[bytes]] = [[], []]
            self.ever_sent: list[list[bytes]] = [[], []]
        self.epoch += 1
        halves = [self.random.randbytes(HALF_BYTES), self.random.randbytes(HALF_BYTES)]
        self.ends[0].begin(self.epoch, halves[0], halves[1])
        self.ends[1].begin(self.epoch, halves[1], halves[0])
        self.oracle.begun()
        self.submitted: list[dict[bytes, bool]] = [{}, {}]  # payload: reliable
        self.delivered: list[set[bytes]] = [set(), set()]  # at the other end

    def load(self, way: int, words: int) -> None:
        key = self.random.randbytes(8 * words)
        if self.ends[1 - way].load(Direction.IN, key) and not self.ends[way].load(Direction.OUT, key):
            raise AssertionError("the sender's buffer is never fuller than the receiver's")

    def submit(self, way: int, length: int, padded: int, priority: int, reliable: bool) -> None:
        self.counter += 1
        payload = self.counter.to_bytes(4, "big") + bytes(length)
        try:
            self.ends[way].submit(
                Channel.DEVICE, Command.DATA, priority, reliable, payload, len(payload) - min(padded, length)
            )
        except Refused as refused:
            assert refused.verdict is Verdict.DROP_QUEUE_FULL
        else:
            self.submitted[way][payload] = reliable

    def poll(self, way: int) -> bool:
        packet = self.ends[way].poll(self.now_ns)
        if packet is None:
            deadline = self.ends[way].deadline()
            assert deadline is None or deadline > self.now_ns
            return False
        self.oracle.sent(packet)
        self.wire[way].append(packet)
        self.ever_sent[way].append(packet)
        return True

    def receive(self, way: int, packet: bytes) -> Verdict:
        """The datagram reaches the end opposite to `way`."""
        verdict, delivery = self.ends[1 - way].receive(self.now_ns, packet)
        self.oracle.received(packet, verdict)
        if delivery is not None:
            assert delivery.payload in self.submitted[way]
            assert delivery.payload not in self.delivered[way], "delivered twice"
            self.delivered[way].add(delivery.payload)
        return verdict

    def come_to_rest(self) -> None:
        """A good channel from now on: everything reliable gets across."""
        for _ in range(10_000):
            for way in (0, 1):
                self.ends[way].allow(0)
                self.load(way, 64)
                while self.poll(way):
                    pass
                while self.wire[way]:
                    self.receive(way, self.wire[way].pop(0))
            stats = [end.stats() for end in self.ends]
            if all(s.queued == 0 and s.in_flight == 0 for s in stats):
                break
            self.now_ns += 25 * MS
        for way in (0, 1):
            assert {p for p, reliable in self.submitted[way].items() if reliable} <= self.delivered[way]
            check_words(self.ends[way].stats())

    def close(self) -> None:
        for end in self.ends:
            end.close()


def check_words(stats: LinkStats) -> None:
    """Every word of the last epoch is spent or there; earlier epochs' words add to what was spent."""
    assert sum(stats.spent_words.values()) + stats.out_words >= stats.out_loaded
    assert stats.out_settled <= stats.out_loaded


ways = st.integers(0, 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), ways, st.integers(0, 400), st.integers(0, 400), st.integers(0, 7), st.booleans()),
        st.tuples(st.just("poll"), ways),
        st.tuples(st.just("poll"), ways),
        st.tuples(st.just("deliver"), ways, st.integers(0, 30)),
        st.tuples(st.just("deliver"), ways, st.integers(0, 30)),
        st.tuples(st.just("lose"), ways, st.integers(0, 30)),
        st.tuples(st.just("replay"), ways, st.integers(0, 1000)),
        st.tuples(st.just("corrupt"), ways, st.integers(0, 30), st.integers(0, 20_000)),
        st.tuples(st.just("reflect"), ways, st.integers(0, 1000)),
        st.tuples(st.just("tick"), st.integers(0, 400)),
        st.tuples(st.just("load"), ways, st.integers(1, 200)),
        st.tuples(st.just("allow"), ways, st.integers(0, 8)),
        st.tuples(st.just("epoch")),
    ),
    max_size=120,
)


def carry_out(pair: Pair, step: tuple[object, ...]) -> None:
    name, *rest = step
    arguments = [int(argument) for argument in rest]  # type: ignore[call-overload]
    match name:
        case "submit":
            way, length, padded, priority, reliable = arguments
            pair.submit(way, length, padded, priority, bool(reliable))
        case "poll":
            pair.poll(arguments[0])
        case "deliver" | "lose" | "corrupt":
            wire = pair.wire[arguments[0]]
            if not wire:
                return
            packet = wire.pop(arguments[1] % len(wire))
            if name == "deliver":
                pair.receive(arguments[0], packet)
            elif name == "corrupt":
                bit = arguments[2] % (8 * len(packet))
                forged = bytearray(packet)
                forged[bit // 8] ^= 1 << bit % 8
                assert pair.receive(arguments[0], bytes(forged)) >= Verdict.HELLO
        case "replay":
            sent = pair.ever_sent[arguments[0]]
            if sent:
                pair.receive(arguments[0], sent[arguments[1] % len(sent)])
        case "reflect":
            sent = pair.ever_sent[arguments[0]]
            if sent:
                assert pair.receive(1 - arguments[0], sent[arguments[1] % len(sent)]) > Verdict.HELLO
        case "tick":
            pair.now_ns += arguments[0] * MS
        case "load":
            pair.load(*arguments)
        case "allow":
            pair.ends[arguments[0]].allow(arguments[1])
        case "epoch":
            pair.begin()


@settings(max_examples=150, deadline=None)
@given(steps)
def test_any_schedule(schedule: list[tuple[object, ...]]) -> None:
    """At most once always, all of it once the channel is good, no key word twice, bad packets use no key."""
    pair = Pair(PARAMS)
    for step in schedule:
        carry_out(pair, step)
    pair.come_to_rest()
    pair.close()


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(1, 3))
def test_giving_up(schedule: list[tuple[object, ...]], tries: int) -> None:
    """Packets may be skipped, but the link comes to rest and nothing else changes."""
    pair = Pair(replace(PARAMS, give_up_tries=tries))
    for step in schedule:
        carry_out(pair, step)
    for way in (0, 1):  # a skipped one is excused
        pair.submitted[way] = dict.fromkeys(pair.submitted[way], False)
    pair.come_to_rest()
    pair.close()


def test_long_run() -> None:
    """Thousands of packets each way through all priorities, a third of the datagrams lost."""
    pair = Pair(replace(PARAMS, flight_slots=64))
    draw = random.Random(5)
    for _ in range(6000):
        pair.now_ns += draw.randrange(3 * MS)
        for way in (0, 1):
            pair.load(way, 40)
            if draw.random() < 0.4:
                pair.submit(way, draw.randrange(300), draw.randrange(300), draw.randrange(8), draw.random() < 0.8)
            pair.poll(way)
            if pair.wire[way]:
                packet = pair.wire[way].pop(draw.randrange(len(pair.wire[way])))
                if draw.random() > 0.33:
                    pair.receive(way, packet)
    pair.come_to_rest()
    assert len(pair.delivered[0]) > 1000
    assert len(pair.delivered[1]) > 1000
    stats = pair.ends[0].stats()
    assert stats.resent_packets > 300
    assert stats.spent_words[Cause.LOST] == 0
    pair.close()


def test_enums_are_those_of_the_header() -> None:
    for verdict in Verdict:
        assert getattr(_native.lib, f"QBB_{verdict.name}") == verdict
    for cause in Cause:
        assert getattr(_native.lib, f"QBB_SPENT_{cause.name}") == cause
    for command in Command:
        assert getattr(_native.lib, f"QBB_COMMAND_{command.name}") == command
    for channel in Channel:
        assert getattr(_native.lib, f"QBB_CHANNEL_{channel.name}") == channel
    assert len(Verdict) == _native.lib.QBB_VERDICTS
    assert len(Cause) == _native.lib.QBB_CAUSES


def test_reset_is_as_new() -> None:
    engine = Engine(PARAMS)
    assert engine.load(Direction.OUT, bytes(8)) is False  # no epoch: no stream
    engine.begin(1, random.randbytes(HALF_BYTES), random.randbytes(HALF_BYTES))
    engine.submit(Channel.ROUTING, Command.DATA, 6, True, b"hello", 5)
    assert engine.poll(0) is not None
    engine.reset()
    stats = engine.stats()
    assert not engine.running()
    assert engine.poll(10**12) is None
    assert (stats.sent_packets, stats.in_flight, stats.out_loaded) == (0, 0, 0)
    engine.close()


@pytest.mark.parametrize(
    "bad",
    [
        {"flight_slots": 48},
        {"window_words": 100},
        {"window_words": 2048},
        {"buffer_words": 1000},
        {"give_up_tries": 0},
        {"rto_ns": 0},
        {"queue_slots": 0},
    ],
)
def test_bad_parameters(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="parameters of a link"):
        Engine(replace(PARAMS, **bad))


def test_bad_arguments() -> None:
    with Engine(PARAMS) as engine:
        with pytest.raises(ValueError, match="128 each"):
            engine.begin(1, bytes(64), bytes(HALF_BYTES))
        with pytest.raises(ValueError, match="whole words"):
            engine.load(Direction.IN, bytes(9))
        with pytest.raises(Refused, match="NO_EPOCH"):
            engine.submit(Channel.ROUTING, Command.DATA, 6, True, b"hello", 5)
        with pytest.raises(ValueError, match="pad_a of 3 bytes for 2"):
            engine.submit(Channel.ROUTING, Command.DATA, 6, True, b"hello", 3, b"abc")
