"""Registrations in opaque LSAs: codec, packing that floods at once, a directory that believes no forgeries."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.network.errors import LocalProtocolError, RemoteProtocolError
from appliance.routing import registrations
from appliance.routing.lsa import OpaqueBody
from appliance.routing.registrations import Directory, Publisher, Registration

NODE = IPv4Address("1.4.1.1")
VAULT = Registration(NODE, 7443, 3, "vault", IPv4Address("198.51.100.9"))


def test_a_body_byte_by_byte() -> None:
    assert registrations.pack_body([VAULT]) == bytes.fromhex(
        "01" "00" "0001" "0018" "1d13" "01040101" "03" "05" "04" "00" "7661756c74" "c6336409" "000000"
    )  # fmt: skip
    assert registrations.parse_body(registrations.pack_body([VAULT])) == (VAULT,)


RECORDS = st.builds(
    Registration,
    st.sampled_from([NODE, NODE + 1]),
    st.integers(1, 65535),
    st.integers(0, 255),
    st.text(st.characters(categories=["L", "N", "P"]), max_size=16),
    st.none() | st.ip_addresses(),
)


@given(st.lists(RECORDS, max_size=40))
def test_bodies_are_read_as_they_were_written(records: list[Registration]) -> None:
    for group in registrations.packed(records):
        body = registrations.pack_body(group)
        assert len(body) % 4 == 0
        assert len(body) <= registrations.BODY_BYTES
        assert registrations.parse_body(body) == group


@given(st.binary(max_size=120), st.integers(0, 4))
def test_any_bytes_are_a_body_or_refused(data: bytes, count: int) -> None:
    for body in (data, bytes((1, 0, 0, count)) + data):
        try:
            registrations.parse_body(body)
        except RemoteProtocolError as error:
            assert error.reason.startswith("registration-")


class Network:
    """What ospfd and the other nodes make of a publisher's actions."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher, self.lsas, self.used = publisher, dict[int, bytes](), set[int]()
        self.moved = 0

    def flush(self) -> None:
        wanted = set(self.publisher.all())
        staying = self.found() & wanted
        for opaque_id, body in self.publisher.flush():
            if body is None:
                del self.lsas[opaque_id]
            else:
                assert opaque_id not in self.used, "only a new id floods at once"
                self.used.add(opaque_id)
                self.lsas[opaque_id] = body
                self.moved += len(registrations.parse_body(body))
            assert staying <= self.found(), "nothing is absent meanwhile"
        assert self.found() == wanted

    def found(self) -> set[Registration]:
        return {one for body in self.lsas.values() for one in registrations.parse_body(body)}


def one(number: int) -> Registration:
    return Registration(NODE, 1 + number, 3, f"application-{number}")


def test_one_by_one_there_are_few_lsas_and_few_moves() -> None:
    network = Network(Publisher(NODE, 5))
    count = 1000
    for number in range(count):
        network.publisher.add(one(number))
        network.flush()
    full = -(-sum(len(registrations.pack_record(one(n))) for n in range(count)) // registrations.BODY_BYTES)
    assert len(network.lsas) <= full * 2 + 6
    assert network.moved <= 8 * count


def test_thousands_at_once_fill_their_lsas() -> None:
    network = Network(Publisher(NODE, (1 << 24) - 3))
    for number in range(5000):
        network.publisher.add(one(number))
    network.flush()
    assert network.moved == 5000
    assert len(network.lsas) < 5000 * 36 / 1100
    assert max(network.used) < 1 << 24
    for number in range(4999):
        network.publisher.remove(one(number))
    network.flush()
    assert network.found() == {one(4999)}
    assert len(network.lsas) == 1


@pytest.mark.parametrize("seed", range(20))
def test_random_lives(seed: int) -> None:
    r = random.Random(seed)
    network = Network(Publisher(NODE, 0))
    alive: set[int] = set()
    for _ in range(150):
        for number in r.sample(range(300), r.choice([0, 1, 1, 5, 40])):
            (network.publisher.remove if number in alive else network.publisher.add)(one(number))
            alive ^= {number}
        network.flush()
    assert not network.publisher.flush()
    assert {body for _, body in network.publisher.again()} == set(network.lsas.values())


@pytest.mark.parametrize(
    "wrong",
    [
        Registration(IPv4Address("1.4.1.5"), 7443),
        Registration(NODE, 0),
        Registration(NODE, 65536),
        Registration(NODE, 1, 256),
        Registration(NODE, 1, 3, "x" * 65),
        Registration(NODE, 1, 3, "bell\a"),
    ],
)
def test_what_cannot_be_registered(wrong: Registration) -> None:
    publisher = Publisher(NODE, 0)
    with pytest.raises(LocalProtocolError):
        publisher.add(wrong)
    assert publisher.flush() == []


def body(*records: Registration) -> OpaqueBody:
    return OpaqueBody(registrations.OPAQUE_KIND, 1, registrations.pack_body(records))


def test_the_directory() -> None:
    directory = Directory()
    other = Registration(IPv4Address("1.5.1.1"), 7443, 3, "vault", IPv6Address("2001:db8::5"))
    directory.rebuild([(int(NODE), body(VAULT)), (int(other.address), body(other))])
    assert directory.named("vault") == [(VAULT, int(NODE)), (other, int(other.address))]
    assert directory.at(NODE, 7443) == [(VAULT, int(NODE))]
    assert directory.at(NODE, 7444) == []
    directory.rebuild([(int(NODE), body(VAULT))])
    assert directory.named("vault") == [(VAULT, int(NODE))]
    assert directory.dropped == {}


def test_forged_and_broken_lsas_are_dropped_and_counted_once() -> None:
    directory = Directory()
    forger = int(IPv4Address("1.9.9.1"))
    mine = Registration(IPv4Address("1.9.9.1"), 5, 3, "mine")
    lsas = [
        (int(NODE), body(VAULT)),
        (forger, body(mine, VAULT)),
        (forger, OpaqueBody(registrations.OPAQUE_KIND, 2, b"\x02\0\0\0")),
    ]
    for _ in range(3):
        directory.rebuild(lsas)
    assert directory.named("vault") == [(VAULT, int(NODE))]
    assert directory.named("mine") == [], "who lies once is not believed in the same breath"
    assert directory.dropped == {"registration-forged": 1, "registration-version": 1}
