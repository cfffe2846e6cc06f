"""Connections by name in the pure core: the directory's answers, the nearest first, the next one when it fails."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from appliance.keys import finding, pfkey
from appliance.keys.clients import Client
from appliance.keys.core import KeysCore, Settings
from appliance.keys.effects import Announce, Find, Send
from appliance.keys.finding import Found, Where
from appliance.keys.pfkey import Ext, Message, MessageType, SaType
from appliance.keys.policy import Credentials, Rule
from appliance.native.shelf import KeySource, Shelf
from appliance.transport.endpoint import Endpoint

HERE, NEAR, FAR = (IPv4Address(f"1.1.1.{n}") for n in (1, 5, 9))
PUBLIC = pfkey.Address(0, 32, 0, IPv4Address("192.0.2.1"))
TLS = SaType.TLS


class Node:
    def __init__(self, rule: Rule = Rule()) -> None:  # noqa: B008 - frozen
        self.shelf = Shelf(16, KeySource(), 64)
        self.outages: dict[IPv4Address, str] = {}
        self.core = KeysCore(
            Endpoint(HERE, os.urandom), self.shelf, os.urandom, Settings((rule,), outage=self.outages.get)
        )
        self.client: Client = self.core.add_client(1, Credentials(1, 2, 3), 0.0)
        self._seq = 0

    def _ask(self, kind: MessageType, now: float, satype: int, *extensions: tuple[Ext, pfkey.Value]) -> None:
        self._seq += 1
        message = Message(kind, satype, self._seq, 7, 0, dict(extensions))
        self.core.receive(self.client, pfkey.build(message), now)

    def register(self, port: int, name: str | None = None, satype: int = TLS) -> None:
        named = [(Ext.NAME, pfkey.Name(0, name))] if name is not None else []
        about = (Ext.CONNECTION, pfkey.Connection(0, 0, port)), (Ext.ADDRESS_SRC, PUBLIC)
        self._ask(MessageType.REGISTER, 0.0, satype, *about, (Ext.REASON, pfkey.Reason(0, "")), *named)

    def connect(self, name: str, now: float = 0.0, node: int = 0, port: int = 0) -> None:
        wanted = pfkey.Connection(0, node, 50000, port)
        self._ask(MessageType.ACQUIRE, now, TLS, (Ext.CONNECTION, wanted), (Ext.NAME, pfkey.Name(0, name)))

    def connect_by_address(self, priority: int) -> None:
        wanted = pfkey.Connection(0, int(NEAR), 50000, 443, priority=priority)
        self._ask(MessageType.ACQUIRE, 0.0, TLS, (Ext.CONNECTION, wanted))

    def effects(self, now: float = 0.0) -> list[object]:
        self.core.settle(now)
        return list(self.core.take_effects())

    def searched(self, name: str = "web", now: float = 0.0) -> int:
        """Begins a search; its number."""
        self.register(50000)
        self.effects()
        self.connect(name, now)
        (find,) = self.effects()
        assert isinstance(find, Find) and find.name == name
        return find.number

    def refusal(self, now: float = 0.0) -> tuple[int, str]:
        (send,) = (effect for effect in self.effects(now) if isinstance(effect, Send))
        told = pfkey.parse(send.message)
        return told.errno, told.get(Ext.REASON).text

    def went_to(self) -> list[tuple[IPv4Address, int]]:
        """Whom set-up packets were sent to."""
        packets = [going.clear for going in self.core.outgoing()]
        return [(IPv4Address(packet[16:20]), int.from_bytes(packet[22:24], "big")) for packet in packets]


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.shelf.close()


def test_registrations_are_announced_and_withdrawn(node: Node) -> None:
    node.register(443, "web")
    node.register(444)
    node.register(50001)  # only asks: nobody else need know
    node.register(50002, "named")
    node.register(443, "web")  # the same again
    told = [effect for effect in node.effects() if isinstance(effect, Announce)]
    assert [(one.application.port, one.application.name, one.gone) for one in told] == [
        (443, "web", False), (444, "", False), (50002, "named", False)
    ]  # fmt: skip
    node.core.remove_client(1, 0.0)
    gone = [effect for effect in node.effects() if isinstance(effect, Announce)]
    assert [one.application for one in gone] == [one.application for one in told]
    assert all(one.gone for one in gone)


@pytest.mark.parametrize("name", ["a" * 65, " padded", "two\nlines"])
def test_names_that_cannot_be(node: Node, name: str) -> None:
    node.register(443, name)
    number, reason = node.refusal()
    assert number == errno.EINVAL and "up to 64 printable bytes" in reason


def test_rules_say_which_names() -> None:
    node = Node(Rule("web", names=("web", "vpn-*")))
    for name in ("web", "vpn-7"):
        node.register(1000 + len(name), name)
    assert sum(isinstance(effect, Announce) for effect in node.effects()) == 2
    node.register(445, "bank")
    assert node.refusal() == (errno.EACCES, "rule 'web' does not allow the name 'bank'")
    node.shelf.close()


def test_the_nearest_is_connected_to(node: Node) -> None:
    number = node.searched()
    node.core.found(number, Found((Where(NEAR, 443, TLS), Where(FAR, 444, TLS))), 0.0)
    assert node.went_to() == [(NEAR, 443)]
    assert node.effects() == []


def test_the_next_one_when_the_nearest_cannot_be_reached(node: Node) -> None:
    number = node.searched()
    node.outages[NEAR] = "link a carries no keys: cut"
    node.core.found(number, Found((Where(NEAR, 443, TLS), Where(FAR, 444, TLS))), 0.0)
    assert node.went_to() == [(FAR, 444)]


def test_the_next_one_when_the_nearest_goes_down_while_it_is_asked(node: Node) -> None:
    number = node.searched()
    node.core.found(number, Found((Where(NEAR, 443, TLS), Where(FAR, 444, TLS))), 0.0)
    assert node.went_to() == [(NEAR, 443)]
    node.outages[NEAR] = "no route leads to node 1.1.1.5"
    node.core.tick(0.1)
    assert (FAR, 444) in node.went_to()
    node.outages[FAR] = "no route leads to node 1.1.1.9"
    node.core.tick(0.2)
    assert node.refusal() == (errno.ENETUNREACH, "no route leads to node 1.1.1.9")
    assert node.client.quota.connections == 0


def test_refusals_say_what_is_wrong(node: Node) -> None:
    cases: list[tuple[Found | None, int, str]] = [
        (None, errno.EHOSTUNREACH, "no routing unit runs: connect by the node's address and port"),
        (Found(()), errno.ENOENT, "no application named 'web' is registered in the network"),
        (Found((Where(HERE, 443, TLS),)), errno.EINVAL, "application 'web' is at this node: keys go between nodes"),
        (
            Found((Where(NEAR, 500, SaType.ESP),)),
            errno.EPROTOTYPE,
            "application 'web' takes keys for esp, not for tls",
        ),
    ]
    for found, number, reason in cases:
        search = node.searched()
        node.core.found(search, found, 0.0)
        assert node.refusal() == (number, reason)
    assert node.client.quota.connections == 0 and node.core.deadline() is None


def test_an_unsettled_directory_is_asked_again(node: Node) -> None:
    number = node.searched()
    node.core.found(number, Found((), complete=False), 0.0)
    assert node.effects() == [] and node.core.deadline() == finding.ASK_AGAIN_S
    node.core.tick(finding.ASK_AGAIN_S)
    assert node.effects() == [Find(number, "web")]
    node.core.found(number, Found((Where(NEAR, 443, TLS),), complete=False), 0.3)
    assert node.went_to() == [(NEAR, 443)]


def test_an_unsettled_directory_is_not_asked_for_ever(node: Node) -> None:
    number, now = node.searched(), 0.0
    while now < finding.FIND_S:
        node.core.found(number, Found((), complete=False), now)
        deadline = node.core.deadline()
        assert deadline is not None and deadline > now
        now = deadline
        node.core.tick(now)
        assert node.effects(now) == [Find(number, "web")]
    node.core.found(number, Found((), complete=False), now)
    number, reason = node.refusal(now)
    assert number == errno.ENOENT and "routing has not settled" in reason


def test_a_directory_that_does_not_answer(node: Node) -> None:
    number = node.searched()
    assert node.core.deadline() == finding.FIND_S
    node.core.tick(finding.FIND_S)
    error, reason = node.refusal(finding.FIND_S)
    assert error == errno.ETIMEDOUT and "did not say in time" in reason
    node.core.found(number, Found((Where(NEAR, 443, TLS),)), 6.0)  # late
    assert node.effects(6.0) == [] and node.went_to() == []


def test_a_client_that_goes_while_it_is_looked_for(node: Node) -> None:
    number = node.searched()
    node.core.remove_client(1, 0.0)
    node.effects()
    node.core.found(number, Found((Where(NEAR, 443, TLS),)), 0.0)
    assert node.effects() == [] and node.went_to() == [] and node.core.deadline() is None


def test_by_name_or_by_address_but_not_both(node: Node) -> None:
    node.register(50000)
    node.effects()
    for name, there, port in (("web", int(NEAR), 443), ("web", 0, 443), ("", 0, 0)):
        node.connect(name, 0.0, there, port)
        number, reason = node.refusal()
        assert number == errno.EINVAL and "by name, or by node and port" in reason


def test_a_priority_that_the_rule_allows_is_in_every_packet() -> None:
    node = Node(Rule("fast", priority=3))
    node.register(50000)
    node.effects()
    node.connect_by_address(4)
    assert node.refusal() == (errno.EACCES, "rule 'fast' allows priorities up to 3, not 4")
    node.connect_by_address(3)
    (packet,) = (going.clear for going in node.core.outgoing())
    assert packet[1] >> 5 == 3, "the precedence bits, by which each node queues"
    node.shelf.close()
