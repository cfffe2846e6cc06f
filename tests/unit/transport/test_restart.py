"""Restarts, resets, old segments, port reuse: what one life of an end leaves behind harms no other."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_pipe import World

from appliance.network import icmp
from appliance.network.errors import LocalProtocolError
from appliance.transport import packet
from appliance.transport.admission import AdmissionRefused, Qos
from appliance.transport.constants import (
    HALF_OPEN_S,
    IDLE_S,
    LINGER_S,
    MAX_HALF_OPEN,
    MAX_HALF_OPEN_PER_NODE,
    MAX_RESETS_WAITING,
)
from appliance.transport.endpoint import Endpoint
from appliance.transport.events import CloseReason, Discard
from appliance.transport.outgoing import wrap
from appliance.transport.packet import Segment
from appliance.transport.states import State

ONE, TWO = IPv4Address("1.1.0.1"), IPv4Address("1.1.0.5")


def opened(seed: int = 1, **faults: float) -> World:
    world = World(seed, **faults)
    world.node(1).endpoint.listen(7)
    world.connect(0, 1, 7, local_port=9)
    world.run(1)
    return world


def test_a_restarted_receiver_resets_a_busy_sender() -> None:
    world = opened()
    connection = world.node(0).opened[0]
    first = world.send(connection, 3)
    world.run(1)
    world.node(1).restart()
    later = world.send(connection, 30)
    world.run(1)
    assert world.node(0).closed == {connection: CloseReason.RESET}
    assert world.confirmed == dict.fromkeys(first, 1)
    assert world.lost == dict.fromkeys(later, 1)
    assert not any(world.delivered[key] for key in later)


def test_a_restart_is_noticed_by_a_quiet_peer_at_the_latest_by_its_probe() -> None:
    world = opened()
    world.node(1).restart()
    world.run(IDLE_S + 1)
    assert list(world.node(0).closed.values()) == [CloseReason.RESET]


def test_a_restarted_client_on_the_same_ports_replaces_its_former_life() -> None:
    world = opened()
    (former,) = world.node(1).accepted
    world.send(former, 2)
    world.node(0).restart()
    world.run(0.1)
    again = world.connect(0, 1, 7, local_port=9)
    world.run(5)
    assert world.node(0).opened == [again]
    assert world.node(1).closed == {former: CloseReason.RESET}
    sent = world.send(again, 3)
    world.run(1)
    assert all(world.confirmed[key] for key in sent)


def test_nobody_listens() -> None:
    world = World(1)
    connection = world.connect(0, 1, 7)
    lost = world.send(connection, 2)
    world.run(1)
    assert world.node(0).closed == {connection: CloseReason.REFUSED}
    assert world.lost == dict.fromkeys(lost, 1)
    assert world.node(1).endpoint.dropped == {"port-unknown": 1}


def test_unlisten_keeps_connections_and_takes_no_new_ones() -> None:
    world = opened()
    endpoint = world.node(1).endpoint
    endpoint.unlisten(7)
    other = world.connect(0, 1, 7)
    sent = world.send(world.node(0).opened[0])
    world.run(1)
    assert world.node(0).closed == {other: CloseReason.REFUSED}
    assert all(world.confirmed[key] for key in sent)
    with pytest.raises(LocalProtocolError):
        endpoint.unlisten(7)
    endpoint.listen(7)
    with pytest.raises(LocalProtocolError):
        endpoint.listen(7)


def test_ports_in_use_and_used_again() -> None:
    world = opened()
    connection = world.node(0).opened[0]
    with pytest.raises(LocalProtocolError, match="already"):
        world.connect(0, 1, 7, local_port=9)
    connection.close(world.now)
    world.run(1)
    assert connection.state is State.TIME_WAIT
    for _ in range(5):
        again = world.connect(0, 1, 7, local_port=9)
        sent = world.send(again, 30)
        world.run(1)
        assert all(world.confirmed[key] for key in sent)
        world.node(1).accepted[-1].close(world.now)  # now the listening side lingers
        world.run(1)
        assert again.state is State.CLOSED
        assert world.node(1).accepted[-1].state is State.TIME_WAIT
    world.run(LINGER_S + 1)
    assert world.node(1).endpoint.deadline() is None


@pytest.mark.parametrize("port", [0, 65_536, -1])
def test_ports_that_do_not_exist(port: int) -> None:
    endpoint = Endpoint(ONE, bytes)
    with pytest.raises(LocalProtocolError, match="65535"):
        endpoint.listen(port)
    with pytest.raises(LocalProtocolError, match="65535"):
        endpoint.connect(0.0, 1, TWO, port)


def test_only_other_nodes_can_be_connected_to() -> None:
    endpoint = Endpoint(ONE, bytes)
    for address in ("1.1.0.1", "127.0.0.1", "224.0.0.1", "1.1.0.0"):
        with pytest.raises(LocalProtocolError, match="no other node"):
            endpoint.connect(0.0, 1, IPv4Address(address), 7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_everything_ever_sent_comes_again(seed: int, restart_receiver: bool, restart_sender: bool) -> None:
    """All segments of an earlier connection on the same ports, in any order, while the next one works."""
    world = opened(seed)
    first = world.send(world.node(0).opened[0], 60)
    world.run(1)
    world.node(0).opened[0].close(world.now)
    world.run(0.2)
    if restart_receiver:
        world.node(1).restart()
        world.node(1).endpoint.listen(7)
    if restart_sender:
        world.node(0).restart()
    old = list(world.history)
    connection = world.connect(0, 1, 7, local_port=9)
    for step in range(40):
        world.send(connection, 3)
        for to, clear, handles in world.random.sample(old, 3):
            world.deliver(to, clear, handles)
        world.run(0.03)
        assert connection.state in (State.SYN_SENT, State.ESTABLISHED), step
    world.run(10)
    world.check_rest()
    assert all(world.confirmed[key] == 1 for key in world.content)
    assert all(world.delivered[key] == 1 for key in first)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.tuples(st.booleans(), st.floats(0.001, 0.6)), max_size=6))
def test_restarts_at_any_point(seed: int, restarts: list[tuple[bool, float]]) -> None:
    """The oracle holds through restarts of either end, and the last life's connection works."""
    world = World(seed, loss=0.15, duplication=0.1, reordering=0.2)
    world.node(1).endpoint.listen(7)
    world.connect(0, 1, 7, local_port=9)
    for receiver, pause in [*restarts, (False, 0.5)]:
        for node in world.nodes.values():
            for connection in node.opened + node.accepted:
                if connection.writable and connection not in node.closed:
                    world.send(connection, 4)
        world.run(pause)
        if receiver:
            world.node(1).restart()
            world.node(1).endpoint.listen(7)
        else:
            world.node(0).restart()
            world.connect(0, 1, 7, local_port=9)
    world.run(100)
    world.check_rest()
    world.faults.loss = 0.0
    live = [known for known in world.node(0).endpoint.connections if known.state is State.ESTABLISHED]
    for connection in live:
        sent = world.send(connection, 5)
        world.run(10)
        reset = world.node(0).closed.get(connection) is CloseReason.RESET  # every answer to SYN|ACK was lost
        assert all(world.lost[key] if reset else world.confirmed[key] for key in sent)


def test_half_open_connections_are_limited_and_forgotten() -> None:
    addresses = tuple(f"1.1.{index}.1" for index in range(10))
    world = World(1, addresses)
    world.node(0).endpoint.listen(7)
    world.faults.loss = 1.0
    for index in range(1, 10):
        for _ in range(MAX_HALF_OPEN_PER_NODE + 5):
            world.connect(index, 0, 7)
    target = world.node(0).endpoint
    for to, clear, handles in [entry for entry in world.history if entry[0] == target.address]:
        world.deliver(to, clear, handles)
    assert len(target._connections) == MAX_HALF_OPEN
    assert target.connections == ()
    assert target.dropped["half-open-limit"] == 9 * (MAX_HALF_OPEN_PER_NODE + 5) - MAX_HALF_OPEN
    target.outgoing()
    world.run(HALF_OPEN_S + 1)
    assert not target._connections
    assert world.node(0).accepted == []
    assert not world.node(0).closed  # nobody was told of them, so nobody is told of their end


def test_strangers_are_reset_at_a_bounded_rate() -> None:
    world = opened()
    for _ in range(500):
        world.send(world.node(0).opened[0])
    keys = [entry for entry in world.history if entry[0] == TWO and entry[2]]
    fresh = Endpoint(TWO, world.random.randbytes)
    for _, clear, handles in keys * 2:
        fresh.receive(world.now, clear, handles)
    assert 0 < len(fresh.outgoing()) <= MAX_RESETS_WAITING
    events = fresh.events()
    assert all(type(event) is Discard for event in events)
    assert len(events) == len(keys) * 2 == fresh.dropped["segment-unknown"]


def test_the_network_says_unreachable_while_setting_up() -> None:
    world = World(1)
    world.faults.loss = 1.0
    connection = world.connect(0, 1, 7)
    (_, syn, _) = world.history[0]
    relay = IPv4Address("1.1.0.9")
    world.deliver(ONE, icmp.destination_unreachable(relay, syn, icmp.Unreachable.HOST), ())
    world.flush()
    assert world.node(0).closed == {connection: CloseReason.UNREACHABLE}
    world.deliver(ONE, icmp.destination_unreachable(relay, syn, icmp.Unreachable.HOST), ())
    assert world.node(0).endpoint.dropped["icmp-unheeded"] == 1, "of a connection that is over"
    standing = opened()
    (connection,) = standing.node(0).endpoint.connections
    standing.deliver(ONE, icmp.destination_unreachable(relay, standing.history[0][1], icmp.Unreachable.HOST), ())
    assert standing.node(0).endpoint.dropped["icmp-unheeded"] == 1
    assert connection.warned_s is not None and not standing.node(0).closed, "it goes on, but knows"


def test_what_the_path_cannot_carry_is_refused() -> None:
    world = World(1)
    endpoint = Endpoint(ONE, world.random.randbytes, path_rate={TWO: 1000.0}.get)
    first = endpoint.connect(0.0, 0, TWO, 7, Qos(rate_bps=600))
    with pytest.raises(AdmissionRefused, match="400 bit/s free"):
        endpoint.connect(0.0, 0, TWO, 7, Qos(rate_bps=600))
    with pytest.raises(AdmissionRefused, match="no path"):
        endpoint.connect(0.0, 0, IPv4Address("1.1.0.6"), 7, Qos(guaranteed_bps=1))
    endpoint.connect(0.0, 0, TWO, 7)  # asks for no rate
    first.abort(0.0)
    endpoint.connect(0.0, 0, TWO, 7, Qos(rate_bps=1000))


def test_an_end_that_gave_up_on_the_set_up_tells_the_other() -> None:
    """The client stands, its acknowledgements are lost; the server's reset comes through."""
    world = World(1)
    server = world.node(1).endpoint
    server.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(0.015)
    world.faults.loss = 1.0
    world.deliver(ONE, world.history[1][1], ())  # the SYN|ACK
    world.run(HALF_OPEN_S - 1)
    assert world.node(0).opened == [connection]
    assert world.node(1).accepted == []
    world.run(2)
    to, reset, handles = world.history[-1]
    world.deliver(to, reset, handles)
    world.flush()
    assert world.node(0).closed == {connection: CloseReason.RESET}


@pytest.mark.parametrize(("sequence", "acknowledgement"), [(0, 0), (1, 0), (0, 1), (2**31, 0), (0, 2**31)])
def test_a_reset_without_tags_must_fit_both_sequences(sequence: int, acknowledgement: int) -> None:
    """Offsets from the right numbers: only none is believed."""
    world = opened()
    (connection,) = world.node(0).opened
    right = Segment(7, 9, world.node(1).accepted[0].tag + 1, connection.tag + 1, packet.RST)
    right.sequence += sequence
    right.acknowledgement += acknowledgement
    world.deliver(ONE, wrap(int(TWO), int(ONE), right).clear, ())
    world.flush()
    believed = (sequence, acknowledgement) == (0, 0)
    assert world.node(0).closed == ({connection: CloseReason.RESET} if believed else {})
    assert world.node(0).endpoint.dropped["segment-reset"] == (not believed)
    forged = Segment(7, 9, 0, 0, packet.RST, sender_tag=1, receiver_tag=connection.tag)
    world.deliver(ONE, wrap(int(TWO), int(ONE), forged).clear, ())
    assert (connection.state is State.CLOSED) == believed


def test_a_peer_that_forgot_a_finished_connection_has_not_reset_it() -> None:
    """The last acknowledgement was lost, and the peer restarted: every key was confirmed, so the end is orderly."""
    world = opened()
    (accepted,) = world.node(1).accepted
    sent = world.send(accepted, 3)
    world.run(1)
    world.node(0).opened[0].close(world.now)
    world.run(0.0101)
    assert accepted.state is State.LAST_ACK
    world.node(0).restart()
    world.run(5)
    assert world.node(1).closed == {accepted: CloseReason.CLOSED}
    assert world.confirmed == dict.fromkeys(sent, 1)
