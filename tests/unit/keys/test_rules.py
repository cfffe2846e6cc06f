"""SPIs, quotas, registry, algorithms, messages between keys services and their courier."""

from __future__ import annotations

import errno
import random
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.keys import peer
from appliance.keys.associations import split
from appliance.keys.courier import GIVE_UP_S, Courier, is_message
from appliance.keys.errors import Refused
from appliance.keys.pfkey import SaType
from appliance.keys.policy import Credentials, Policy, Quota, Rule, check_application
from appliance.keys.registry import Application, Registry
from appliance.keys.spi import SpiAllocator
from appliance.network.errors import LocalProtocolError, RemoteProtocolError

KEY_ID = bytes(range(16))


def test_spis_are_unique_and_come_in_turn() -> None:
    spis = SpiAllocator(1000, 1009, 7)
    taken = [spis.allocate() for _ in range(10)]
    assert sorted(taken) == list(range(1000, 1010)) and taken[0] == 1007
    with pytest.raises(Refused) as caught:
        spis.allocate()
    assert caught.value.errno == errno.EEXIST
    spis.free(1003)
    assert spis.allocate() == 1003
    for spi in (1001, 1002):
        spis.free(spi)
    assert [spis.allocate(), spis.allocate()] == [1001, 1002]


def test_spi_within_what_the_asker_wants() -> None:
    spis = SpiAllocator(1000, 1999)
    assert [spis.allocate(1500, 1501), spis.allocate(1500, 1501)] == [1500, 1501]
    for low, high, number in ((1500, 1501, errno.EEXIST), (1, 999, errno.EINVAL), (1600, 1599, errno.EINVAL)):
        with pytest.raises(Refused) as caught:
            spis.allocate(low, high)
        assert caught.value.errno == number


@pytest.mark.parametrize(("first", "last"), [(0, 10), (255, 300), (300, 299), (300, 2**32)])
def test_spi_ranges_that_cannot_be(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="SPIs are"):
        SpiAllocator(first, last)


def test_quota_is_a_token_bucket_shared_by_a_uid() -> None:
    policy = Policy([Rule("slow", uid=7, keys_per_s=2.0, burst_keys=3.0, connections=2)])
    first = policy.admit(Credentials(1, 7, 7), 0.0)
    assert policy.admit(Credentials(2, 7, 9), 5.0) is first  # another socket of the same user
    assert [first.take_key(0.0) for _ in range(4)] == [True, True, True, False]
    assert [first.take_key(t) for t in (0.4, 0.5, 0.9, 1.0)] == [False, True, False, True]
    assert sum(first.take_key(100.0) for _ in range(10)) == 3
    first.take_connection()
    first.take_connection()
    with pytest.raises(Refused) as caught:
        first.take_connection()
    assert caught.value.errno == errno.EMFILE
    with pytest.raises(Refused) as caught:
        policy.admit(Credentials(1, 8, 7), 0.0)
    assert caught.value.errno == errno.EACCES


@given(st.lists(st.floats(0, 3), max_size=200))
def test_no_span_gives_more_keys_than_rate_and_burst_allow(steps: list[float]) -> None:
    quota, now, given_out = Quota(Rule(keys_per_s=5.0, burst_keys=4.0), 0.0), 0.0, 0
    for step in steps:
        now += step
        given_out += quota.take_key(now)
    assert given_out <= 4 + 5 * now + 1e-6


def test_rules_name_ports_and_kinds() -> None:
    rule = Rule(ports=((10, 20), (30, 30)), satypes=(SaType.TLS,))
    check_application(rule, 30, SaType.TLS)
    for port, satype in ((21, SaType.TLS), (15, SaType.ESP)):
        with pytest.raises(Refused) as caught:
            check_application(rule, port, satype)
        assert caught.value.errno == errno.EACCES


def test_first_matching_rule_holds() -> None:
    policy = Policy([Rule("a", uid=1, gid=2), Rule("b", uid=1), Rule("c", gid=2)])
    names = [policy.admit(Credentials(0, uid, gid), 0.0).rule.name for uid, gid in ((1, 2), (1, 3), (4, 2))]
    assert names == ["a", "b", "c"]


def test_registry_keeps_owners_apart() -> None:
    registry = Registry()
    mine = Application(5000, SaType.TLS, IPv4Address("192.0.2.1"), 1)
    assert registry.register(mine) and not registry.register(mine)
    with pytest.raises(Refused) as caught:
        registry.register(Application(5000, SaType.TLS, IPv4Address("192.0.2.1"), 2))
    assert caught.value.errno == errno.EADDRINUSE
    for client, port, number in ((2, 5000, errno.EACCES), (1, 5001, errno.ENOENT)):
        with pytest.raises(Refused) as caught:
            registry.of(client, port)
        assert caught.value.errno == number
    assert registry.forget_client(1) == [mine] and registry.at(5000) is None


@pytest.mark.parametrize(
    ("encrypt", "auth", "length", "sizes"),
    [(20, 0, 0, (36, 0)), (20, 0, 20, (20, 0)), (12, 5, 0, (32, 32)), (12, 3, 36, (16, 20)), (12, 5, 56, (24, 32))],
)
def test_algorithms_split_a_key(encrypt: int, auth: int, length: int, sizes: tuple[int, int]) -> None:
    assert split(encrypt, auth, length) == sizes


@pytest.mark.parametrize(
    ("encrypt", "auth", "length"), [(20, 5, 0), (12, 0, 0), (12, 9, 0), (20, 0, 32), (2, 3, 0), (12, 5, 33)]
)
def test_algorithms_that_do_not_go_together(encrypt: int, auth: int, length: int) -> None:
    with pytest.raises(Refused) as caught:
        split(encrypt, auth, length)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "message",
    [
        peer.Hello(3, 6000, 3600, ip_address("192.0.2.1")),
        peer.Hello(240, 1, 0, ip_address("2001:db8::1")),
        peer.Assign(KEY_ID, True, 0xC0000000, 20, 0, 2, 3600, 3000, 2**40, 0),
        peer.Installed(KEY_ID, 0xCFFFFFFF),
        peer.Refusal(KEY_ID, errno.ENOTCONN, "the application here is gone"),
        peer.Delete((KEY_ID, KEY_ID[::-1])),
    ],
)
def test_peer_messages_round_trip(message: peer.PeerMessage) -> None:
    data = peer.encode(message)
    assert peer.decode(data) == message
    for wrong in (data[:-1], data[:5], b"\x09" + data[1:], b""):
        if wrong[:1] != b"\4":  # the text of a refusal may be of any length
            with pytest.raises(RemoteProtocolError):
                peer.decode(wrong)


@given(st.binary(max_size=80))
def test_any_bytes_from_a_peer(data: bytes) -> None:
    try:
        peer.decode(data)
    except RemoteProtocolError:
        pass


A, B = IPv4Address("1.1.1.1"), IPv4Address("1.1.1.2")


@pytest.mark.parametrize("seed", range(5))
def test_courier_delivers_each_message_once(seed: int) -> None:
    rng = random.Random(seed)
    got: list[bytes] = []
    known = False

    def deliver(local_port: int, remote: IPv4Address, remote_port: int, data: bytes) -> bool:
        assert (local_port, remote, remote_port) == (6000, A, 50000)
        if known:
            got.append(data)
        return known

    sender, receiver = Courier(A, rng.randbytes, lambda *_: True), Courier(B, rng.randbytes, deliver)
    sent = [bytes([number]) * 40 for number in range(50)]
    for data in sent:
        sender.send(0.0, 50000, B, 6000, data)
    now, flying = 0.0, []
    while (sender.deadline() is not None or flying) and now < GIVE_UP_S:
        known = now > 1.0  # the connection's set-up arrives late
        for source in (sender, receiver):
            for packet in source.outgoing():
                assert is_message(packet)
                flying += [packet] * rng.choice((0, 1, 1, 2))
        rng.shuffle(flying)
        for packet in [flying.pop() for _ in range(len(flying) // 2 + 1) if flying]:
            (receiver if packet[16:20] == B.packed else sender).receive(now, packet)
        now += 0.05
        sender.tick(now)
    assert sorted(got) == sent and sender.given_up == 0


def test_courier_drops_what_is_broken() -> None:
    sender, receiver = (
        Courier(A, random.Random(1).randbytes, lambda *_: True),
        Courier(B, random.Random(2).randbytes, lambda *_: True),
    )
    sender.send(0.0, 1, B, 2, b"hello")
    (packet,) = sender.outgoing()
    for at in range(len(packet)):
        changed = bytearray(packet)
        changed[at] ^= 0x40
        if is_message(bytes(changed)):
            with pytest.raises(RemoteProtocolError):
                receiver.receive(0.0, bytes(changed))
    with pytest.raises(LocalProtocolError):
        sender.send(0.0, 1, B, 2, bytes(513))
    sender.tick(GIVE_UP_S)
    assert sender.given_up == 1 and sender.deadline() is None
