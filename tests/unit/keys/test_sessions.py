"""The places of keys, with the real shelf: never in two, wiped when they leave the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from appliance.keys.peer import Hello
from appliance.keys.pfkey import SaType
from appliance.keys.policy import Quota, Rule
from appliance.keys.registry import Application
from appliance.keys.sessions import DRAW_MOST, Key, Place, Session, Sessions
from appliance.native.shelf import KeySource, Shelf, StaleHandle
from appliance.transport.endpoint import Endpoint

STOCK_S, HOLD_S = 100.0, 300.0


class Bench:
    def __init__(self) -> None:
        self.shelf = Shelf(64, KeySource(), 64)
        self.sessions = Sessions(self.shelf, os.urandom, STOCK_S, HOLD_S)
        endpoint = Endpoint(IPv4Address("1.1.1.1"), os.urandom)
        connection = endpoint.connect(0.0, 0, IPv4Address("1.1.1.2"), 6000)
        application = Application(5000, SaType.TLS, IPv4Address("192.0.2.1"), 1)
        quota = Quota(Rule(stock_keys=40), 0.0)
        self.session = Session(self.sessions.new_id(), connection, application, quota, 32, 16, 20)
        self.session.peer = Hello(SaType.TLS, 6000, 300, IPv4Address("192.0.2.2"))
        self.sessions.add(self.session)

    def stock(self, count: int, now: float = 0.0) -> list[Key]:
        keys = []
        for key_id, _, _ in self.sessions.draw(self.session, 32, count, now):
            key = self.sessions.confirm(key_id.bytes)
            assert key is not None
            self.sessions.put_in_stock(key)
            keys.append(key)
        return keys


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.shelf.close()


def test_stock_is_filled_when_a_quarter_is_gone_and_then_to_the_top(bench: Bench) -> None:
    assert bench.sessions.lacking(bench.session) == {32: 16}
    bench.stock(13)
    assert bench.sessions.lacking(bench.session) == {32: 3}  # it is being filled: on to the top
    bench.sessions.draw(bench.session, 32, 3, 0.0)
    assert bench.sessions.lacking(bench.session) == {}  # what flies counts
    for _ in range(3):
        key = bench.sessions.take_from_stock(bench.session, 32, 1.0)
        assert key is not None
        bench.sessions.wipe(key)
    assert bench.sessions.lacking(bench.session) == {}
    key = bench.sessions.take_from_stock(bench.session, 32, 1.0)
    assert key is not None
    assert bench.sessions.lacking(bench.session) == {32: 4}


def test_unconfirmed_keys_are_not_given_out(bench: Bench) -> None:
    bench.sessions.draw(bench.session, 32, 5, 0.0)
    assert bench.sessions.take_from_stock(bench.session, 32, 0.0) is None
    assert {key.place for key in bench.sessions.keys.values()} == {Place.FLIGHT}


def test_confirmed_twice_counts_once(bench: Bench) -> None:
    ((key_id, _, _),) = bench.sessions.draw(bench.session, 32, 1, 0.0)
    assert bench.sessions.confirm(key_id.bytes) is not None
    assert bench.sessions.confirm(key_id.bytes) is None
    assert bench.sessions.confirm(os.urandom(16)) is None


def test_a_key_of_the_peer_is_never_given_to_an_asker(bench: Bench) -> None:
    (handle,) = bench.shelf.draw(32, 1)
    assert bench.sessions.hold(bench.session, b"k" * 16, handle, 32, 0.0)
    assert bench.sessions.take_from_stock(bench.session, 32, 0.0) is None
    assert bench.sessions.confirm(b"k" * 16) is None


def test_a_name_stands_for_one_key(bench: Bench) -> None:
    (own,) = bench.stock(1)
    (handle,) = bench.shelf.draw(32, 1)
    assert not bench.sessions.hold(bench.session, own.key_id, handle, 32, 0.0)
    assert bench.sessions.keys[own.key_id] is own


def test_wiping_takes_the_key_off_the_shelf(bench: Bench) -> None:
    keys = bench.stock(3)
    assert bench.session.quota.stock == 3
    bench.sessions.wipe(keys[1])
    assert list(bench.session.stock) == [keys[0], keys[2]] and bench.session.quota.stock == 2
    with pytest.raises(StaleHandle):
        bench.shelf.length(keys[1].handle)
    assert bench.shelf.length(keys[0].handle) == 32


def test_nothing_is_given_out_after_expiry(bench: Bench) -> None:
    bench.stock(2, 0.0)
    late = bench.stock(1, 50.0)
    (handle,) = bench.shelf.draw(32, 1)
    bench.sessions.hold(bench.session, b"k" * 16, handle, 32, 0.0)
    assert bench.sessions.deadline() == STOCK_S
    assert bench.sessions.take_from_stock(bench.session, 32, STOCK_S) is None
    assert [key.place for key in bench.sessions.expire(STOCK_S)] == [Place.STOCK, Place.STOCK]
    assert bench.sessions.take_from_stock(bench.session, 32, STOCK_S) is late[0]
    assert [key.key_id for key in bench.sessions.expire(HOLD_S)] == [b"k" * 16]
    assert not bench.session.held


def test_quota_and_shelf_bound_what_is_drawn(bench: Bench) -> None:
    assert len(bench.sessions.draw(bench.session, 32, DRAW_MOST, 0.0)) == 40
    assert bench.sessions.draw(bench.session, 32, 1, 0.0) == []
    bench.session.quota.stock = 0
    assert len(bench.sessions.draw(bench.session, 32, 100, 0.0)) == 24
    with pytest.raises(OSError, match="No space left"):
        bench.sessions.draw(bench.session, 32, 1, 0.0)


def test_the_peers_window_follows_what_is_held(bench: Bench) -> None:
    sessions, session = bench.sessions, bench.session
    assert sessions.window(session) == 20 and sessions.window(session) is None
    for number, handle in enumerate(bench.shelf.draw(32, 20)):
        sessions.hold(session, bytes([number]) * 16, handle, 32, 0.0)
    assert session.window_left == 0 and sessions.window(session) is None
    for number in range(10):
        assert sessions.window(session) is None
        sessions.wipe(sessions.keys[bytes([number]) * 16])
    assert sessions.window(session) == 10


def test_a_closed_session_stays_while_it_has_keys(bench: Bench) -> None:
    (handle,) = bench.shelf.draw(32, 1)
    bench.sessions.hold(bench.session, b"k" * 16, handle, 32, 0.0)
    bench.session.closed = True
    assert not bench.sessions.forget_if_empty(bench.session)
    bench.sessions.wipe(bench.session.held[b"k" * 16])
    assert bench.sessions.forget_if_empty(bench.session) and not bench.sessions.by_id and not bench.sessions.by_name
