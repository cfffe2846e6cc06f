"""Any bytes parse or raise RemoteProtocolError; an endpoint raises nothing, loses no handle, and stays small.

corpus/ keeps one packet a file, in hex: real ones, and those that once needed thought. What the file's name says before
the dash must be how an endpoint at 1.1.0.5 that listens on port 7 drops it; "taken" when it does not.
"""

from __future__ import annotations

import random
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_pipe import World

from appliance.network.checksum import internet_checksum
from appliance.network.errors import RemoteProtocolError
from appliance.transport import packet
from appliance.transport.admission import Qos
from appliance.transport.constants import MAX_CONNECTIONS, MAX_RESETS_WAITING, MAX_WINDOW_KEYS
from appliance.transport.endpoint import Endpoint
from appliance.transport.events import Discard, KeysArrived
from appliance.transport.packet import Segment

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.hex"))
ONE, TWO = IPv4Address("1.1.0.1"), IPv4Address("1.1.0.5")


def mend(data: bytes, key_bytes: int | None = None) -> bytes:
    """Give a QKDNL packet right lengths and checksums, so that it gets past them."""
    if len(data) < 40:
        return data
    whole = bytearray(data)
    whole[0] = 0x45
    if key_bytes is not None:
        whole[2:4] = (len(data) + key_bytes).to_bytes(2, "big")
    whole[36:38] = (len(data) - 20).to_bytes(2, "big")
    whole[38:40] = whole[10:12] = b"\0\0"
    length = int.from_bytes(whole[2:4], "big") - 20
    pseudo = bytes(whole[12:20]) + b"\0\xfd" + max(0, length).to_bytes(2, "big")
    whole[38:40] = internet_checksum(pseudo + bytes(whole[20:])).to_bytes(2, "big")
    whole[10:12] = internet_checksum(bytes(whole[:20])).to_bytes(2, "big")
    return bytes(whole)


def feed(endpoint: Endpoint, now: float, data: bytes, handles: list[int]) -> None:
    """Give a packet and check what must hold for any."""
    endpoint.receive(now, data, handles)
    back: list[int] = []
    for event in endpoint.events():
        if isinstance(event, KeysArrived):
            back += [handle for _, handle, _ in event.keys]
        elif isinstance(event, Discard):
            back += event.handles
    assert sorted(back) == sorted(handles)
    assert len(endpoint.outgoing()) <= MAX_RESETS_WAITING + 64
    endpoint.tick(now)
    assert endpoint.deadline() is None or endpoint._connections


@given(st.binary(max_size=200), st.integers(0, 2000))
def test_any_bytes_parse_or_raise(data: bytes, length: int) -> None:
    for whole in (data, mend(bytes(20) + data)[20:]):
        try:
            segment = packet.parse(whole, length, int(ONE), int(TWO))
        except RemoteProtocolError:
            continue
        assert packet.parse(packet.pack(segment, int(ONE), int(TWO)), length, int(ONE), int(TWO)) == segment


numbers = st.integers(0, 2**32 - 1)
ports = st.integers(1, 65_535)


@given(
    st.builds(
        Segment,
        source_port=ports,
        destination_port=ports,
        sequence=numbers,
        acknowledgement=numbers,
        flags=st.sampled_from([flags for flags in packet.SEGMENT_KINDS if flags != packet.KEY]),
        window=st.integers(0, 65_535),
        sender_tag=st.integers(0, 2**64 - 1),
        receiver_tag=st.integers(0, 2**64 - 1),
        sack=st.lists(st.tuples(numbers, numbers), max_size=packet.MAX_SACK_RANGES).map(tuple),
        marks=st.none() | numbers,
        qos=st.none() | st.builds(Qos, numbers, numbers, numbers, st.integers(0, 7)),
        refused=st.booleans(),
    )
)
def test_segments_without_keys_round_trip(segment: Segment) -> None:
    data = packet.pack(segment, int(ONE), int(TWO))
    assert len(data) <= packet.SEGMENT_BYTES
    assert packet.parse(data, len(data), int(ONE), int(TWO)) == segment


@given(st.integers(1, packet.LONGEST_KEY_BYTES), st.data())
def test_segments_with_keys_round_trip(length: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, packet.keys_per_segment(length)))
    ids = data.draw(st.binary(min_size=16 * count, max_size=16 * count))
    segment = Segment(1, 2, 3, 4, packet.KEY, 5, key_length=length, key_id_bytes=ids)
    clear = packet.pack(segment, int(ONE), int(TWO))
    whole = len(clear) + count * length
    assert whole <= packet.SEGMENT_BYTES
    back = packet.parse(clear, whole, int(ONE), int(TWO))
    assert b"".join(key_id.bytes for key_id in back.key_ids) == ids
    assert (back.key_length, back.key_bytes) == (length, count * length)
    with pytest.raises(RemoteProtocolError, match="checksum"):
        packet.parse(clear, whole, int(TWO), int(ONE) + 1)  # not for these addresses


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    endpoint = Endpoint(TWO, random.Random(1).randbytes)
    endpoint.listen(7)
    data = bytes.fromhex(path.read_text())
    count = int.from_bytes(data[40:42], "big") if len(data) > 42 and data[32] & 16 else 0
    feed(endpoint, 1.0, data, list(range(min(count, 80))))
    reason = path.stem.split("-", 1)[0].replace("_", "-")
    assert dict(endpoint.dropped) == ({} if reason == "taken" else {reason: 1})


def test_corpus_is_there() -> None:
    assert len(CORPUS) >= 20


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=120), st.booleans(), st.integers(0, 3)), max_size=20))
def test_endpoint_takes_any_bytes(packets: list[tuple[bytes, bool, int]]) -> None:
    endpoint = Endpoint(TWO, random.Random(1).randbytes)
    endpoint.listen(7)
    for data, whole, count in packets:
        head = bytes.fromhex("4500000000000000 40fd0000 01010001 01010005")
        feed(endpoint, 1.0, mend(head + data, 0) if whole else data, list(range(count)))


def mutated(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Change, cut, lengthen or splice."""
    work = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(20, len(work)) if len(work) > 20 else 0
        match chance.randrange(5):
            case 0:
                work[at : at + 1] = chance.randbytes(1)
            case 1:
                work[at : at + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            case 2:
                del work[at:]
            case 3:
                work[at:at] = chance.randbytes(chance.randrange(9))
            case 4:
                work[at:] = chance.choice(others)[at:]
    return bytes(work[:1280])


def fitting(data: bytes) -> int:
    """The key bytes that a packet speaks of, so that it gets past the check of its length."""
    if len(data) < 44 or not data[32] & 16:
        return 0
    return int.from_bytes(data[40:42], "big") * int.from_bytes(data[42:44], "big") % 1280


@pytest.mark.parametrize("seed", range(3))
def test_hostile_peer_in_the_middle_of_connections(seed: int) -> None:
    """Mutations of what the peer really says, with right checksums: nothing raises, leaks or grows."""
    world = World(seed, loss=0.2, reordering=0.2, duplication=0.1)
    target = world.node(1).endpoint
    target.listen(7)
    connections = [world.connect(0, 1, 7) for _ in range(4)]
    for _ in range(10):
        for connection in connections + world.node(1).accepted:
            world.send(connection, 7)
        world.run(0.05)
    connections[0].close(world.now)
    world.run(0.05)
    sent = [(clear, bool(handles)) for to, clear, handles in world.history if to == TWO]
    heard = [clear for clear, _ in sent]
    said = [[clear for clear, has_keys in sent if has_keys is wanted] for wanted in (False, True)]
    chance, now = random.Random(seed), world.now
    for step in range(4000):
        data = mutated(chance, chance.choice(chance.choice(said)), heard)
        if chance.random() < 0.9:
            data = mend(data, chance.choice((fitting(data), fitting(data), fitting(data), None, 0, 32)))
        count = int.from_bytes(data[40:42], "big") if len(data) > 42 and data[32] & 16 else 0
        now += chance.random() * 0.01
        feed(target, now, data, [step * 100 + index for index in range(min(count, 80))])
    assert len(target._connections) <= MAX_CONNECTIONS
    assert len(target._timers._heap) <= 8 * len(target._connections) + 100
    assert len(target.dropped) < 40
    for known in target._connections.values():
        assert known._receiving.received.above <= MAX_WINDOW_KEYS
    assert {"segment-tag", "segment-keys", "segment-options", "segment-window"} <= set(target.dropped)
