"""The core alone, fed with what a network may do to messages between keys services."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import IPv4Address
from uuid import UUID

import pytest

from appliance.keys import peer
from appliance.keys.core import KeysCore, Settings
from appliance.keys.courier import Courier
from appliance.keys.effects import Give, Send
from appliance.keys.pfkey import Ext, Message, MessageType, SaType, parse
from appliance.keys.policy import Credentials, Rule
from appliance.keys.registry import Application
from appliance.keys.sessions import Request, Session
from appliance.native.shelf import KeySource, Shelf, StaleHandle
from appliance.transport.endpoint import Endpoint
from appliance.transport.events import KeysArrived

HERE, THERE = IPv4Address("1.1.1.2"), IPv4Address("1.1.1.1")
OURS, THEIRS = IPv4Address("192.0.2.2"), IPv4Address("192.0.2.1")
KEY_ID = b"k" * 16
HELLO = peer.Hello(SaType.ESP, 5000, 3600, THEIRS)
ASSIGN = peer.Assign(KEY_ID, False, 0, 20, 0, 2, 10, 0, 0, 0)


class Side:
    """Our core with one ESP session, and the far end's courier."""

    def __init__(self) -> None:
        self.shelf = Shelf(16, KeySource(), 64)
        endpoint = Endpoint(HERE, os.urandom)
        self.core = KeysCore(endpoint, self.shelf, os.urandom, Settings((Rule(),)))
        client = self.core.add_client(1, Credentials(1, 2, 3), 0.0)
        application = Application(6000, SaType.ESP, OURS, 1)
        self.core.registry.register(application)
        endpoint.listen(6000)
        connection = endpoint.connect(0.0, 0, THERE, 5000)
        self.session: Session = self.core.exchange.new_session(connection, application, client)
        endpoint.events()
        self.core.outgoing()
        self.endpoint = endpoint
        self.told: list[peer.PeerMessage] = []
        self.far = Courier(THERE, os.urandom, self._deliver)

    def _deliver(self, local_port: int, remote: IPv4Address, remote_port: int, data: bytes) -> bool:
        self.told.append(peer.decode(data))
        return True

    def tell(self, message: peer.PeerMessage, now: float = 0.0) -> bool:
        """True when it was acknowledged."""
        connection = self.session.connection
        self.far.send(now, 5000, HERE, connection.local_port, peer.encode(message))
        for packet in self.far.outgoing():
            self.core.packet(packet, [], now)
        for going in self.core.outgoing():
            self.far.receive(now, going.clear)
        return self.far.deadline() is None

    def hold(self) -> int:
        (handle,) = self.shelf.draw(36, 1)
        assert self.core.sessions.hold(self.session, KEY_ID, handle, 36, 0.0)
        return handle


@pytest.fixture
def side() -> Iterator[Side]:
    made = Side()
    yield made
    made.shelf.close()


def test_assign_that_overtakes_hello_comes_again(side: Side) -> None:
    side.hold()
    assert not side.tell(ASSIGN)
    assert side.core.take_effects() == [] and side.session.held
    assert not side.tell(HELLO)  # this one is acknowledged, the ASSIGN still waits
    side.far.tick(1.0)
    for packet in side.far.outgoing():
        side.core.packet(packet, [], 1.0)
    for going in side.core.outgoing():
        side.far.receive(1.0, going.clear)
    assert side.far.deadline() is None
    gives = [effect for effect in side.core.take_effects() if isinstance(effect, Give)]
    assert [parse(give.message).type for give in gives] == [MessageType.ADD] and KEY_ID.hex() in gives[0].record


def test_receiver_allocates_installs_and_answers(side: Side) -> None:
    handle = side.hold()
    side.tell(HELLO)
    side.tell(ASSIGN)
    (give,) = [effect for effect in side.core.take_effects() if isinstance(effect, Give)]
    spi = parse(give.message).get(Ext.SA).spi
    assert give.handle == handle and peer.Installed(KEY_ID, spi) in side.told
    assert 0xC0000000 <= spi <= 0xCFFFFFFF and not side.session.held and KEY_ID not in side.core.sessions.keys
    side.tell(ASSIGN)  # a second time there is no key for it
    assert isinstance(side.told[-1], peer.Refusal)


def test_what_cannot_be_installed_is_refused_and_wiped(side: Side) -> None:
    handle = side.hold()
    side.tell(HELLO)
    side.tell(ASSIGN._replace(encrypt=99))
    assert isinstance(side.told[-1], peer.Refusal) and "encryption algorithm 99" in side.told[-1].reason
    with pytest.raises(StaleHandle):
        side.shelf.length(handle)
    side.hold()
    side.tell(ASSIGN._replace(inbound=True))  # they receive, and name no SPI
    assert isinstance(side.told[-1], peer.Refusal) and not side.session.held


def test_delete_wipes_held_keys_of_that_session_alone(side: Side) -> None:
    handle = side.hold()
    side.tell(peer.Delete((b"x" * 16,)))
    assert side.session.held
    side.tell(peer.Delete((KEY_ID,)))
    assert not side.session.held
    with pytest.raises(StaleHandle):
        side.shelf.length(handle)


def test_installed_for_what_was_given_up_is_deleted_there(side: Side) -> None:
    side.tell(HELLO)
    side.tell(peer.Installed(KEY_ID, 7))
    assert side.told[-1] == peer.Delete((KEY_ID,))


def test_lifetime_ends_the_association_here_too(side: Side) -> None:
    side.hold()
    side.tell(HELLO)
    side.tell(ASSIGN)
    side.core.take_effects()
    side.core.exchange.agreement.tick(9.9)
    assert side.core.take_effects() == []
    side.core.exchange.agreement.tick(10.0)
    (send,) = side.core.take_effects()
    assert isinstance(send, Send) and parse(send.message).type == MessageType.EXPIRE
    assert not side.core.exchange.agreement.table.by_key_id


def test_keys_that_come_when_the_application_is_gone_are_wiped(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    first = side.hold()
    side.core.remove_client(1, 0.0)
    (late,) = side.shelf.draw(36, 1)
    arrived = KeysArrived(side.session.connection, ((UUID(bytes=b"l" * 16), late, 36),))
    monkeypatch.setattr(side.endpoint, "events", iter(([arrived], [])).__next__)
    side.core.settle(0.0)
    for handle in (first, late):
        with pytest.raises(StaleHandle):
            side.shelf.length(handle)


def test_a_request_that_times_out_tells_what_the_network_said(side: Side) -> None:
    side.tell(HELLO)
    side.core.clients[1].wants_reason = True
    reasons = []
    for warned_s in (None, 5.0):
        side.session.connection.warned_s = warned_s
        side.session.waiting.append(Request(Message(MessageType.GETSPI, SaType.ESP, 1, 1), 36, 10.0))
        side.core.take_effects()
        side.core.exchange.tick(10.0)
        (send,) = (effect for effect in side.core.take_effects() if isinstance(effect, Send))
        reasons.append(parse(send.message).get(Ext.REASON).text)
    assert reasons == [
        "no key was confirmed in time",
        "no key was confirmed in time: the network says that node 1.1.1.1 cannot be reached",
    ]


def test_garbage_from_the_peer_resets_the_connection(side: Side) -> None:
    side.far.send(0.0, 5000, HERE, side.session.connection.local_port, b"\x07garbage")
    for packet in side.far.outgoing():
        side.core.packet(packet, [], 0.0)
    side.core.settle(0.0)
    assert side.session.closed and side.core.exchange.counters == {"keys-message": 1}
