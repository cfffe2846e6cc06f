"""Every key confirmed at its sender was delivered, once, with its own bytes, whatever the network does."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transport_pipe import STORM, World

from appliance.network.errors import LocalProtocolError
from appliance.transport import packet
from appliance.transport.admission import Qos
from appliance.transport.connection import Connection
from appliance.transport.constants import (
    GIVE_UP_S,
    IDLE_S,
    IDLE_STAGGER_S,
    MAX_QUEUED_KEYS,
    PROBE_GIVE_UP_S,
    WINDOW_KEYS,
)
from appliance.transport.events import CloseReason
from appliance.transport.states import State

STORMY = vars(STORM)


def test_keys_arrive_and_are_confirmed_without_faults() -> None:
    world = World(1)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7, qos=Qos(rate_bps=10**6, burst_bits=10**6, guaranteed_bps=5, priority=3))
    sent = world.send(connection, 100)
    world.run(1)
    assert world.confirmed == world.delivered == dict.fromkeys(sent, 1)
    assert world.packets == {"key": 4, "control": 3}  # SYN, SYN|ACK, one acknowledgement
    (accepted,) = world.node(1).accepted
    assert accepted.qos == connection.qos
    connection.close(world.now)
    world.run(1)
    assert world.node(0).closed == {connection: CloseReason.CLOSED}
    assert world.node(1).closed == {accepted: CloseReason.CLOSED}
    assert not world.node(0).endpoint.dropped
    assert not world.node(1).endpoint.dropped


def storm(seed: int) -> tuple[World, Connection]:
    """A busy connection, both ends sending, in the worst weather; then an orderly close."""
    world = World(seed, **STORMY)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    for _ in range(60):
        if connection.writable:
            world.send(connection, world.random.choice((1, 1, 1, 5, 30)), world.random.choice((16, 32, 36)))
        if (accepted := world.node(1).accepted) and accepted[0].writable:
            world.send(accepted[0])
        world.run(world.random.random() * 0.1)
    world.run(GIVE_UP_S)
    connection.close(world.now)
    world.run(4 * GIVE_UP_S)
    return world, connection


def test_storm() -> None:
    """Safe always (the oracle); alive nearly always: eleven tries in a row can fail, then the end is a time-out."""
    ends: Counter[CloseReason] = Counter()
    dropped: Counter[str] = Counter()
    for seed in range(30):
        world, connection = storm(seed)
        world.check_rest()
        end = world.node(0).closed[connection]
        ends[end] += 1
        assert set(world.confirmed) | set(world.lost) == set(world.content)
        if end is CloseReason.CLOSED:
            assert not world.lost
        for node in world.nodes.values():
            dropped += node.endpoint.dropped
            assert node.endpoint.connections == ()
            assert node.endpoint.deadline() is None
    assert ends[CloseReason.CLOSED] >= 25
    assert set(ends) <= {CloseReason.CLOSED, CloseReason.TIMEOUT}
    assert {"segment-duplicate", "segment-checksum", "network-checksum"} <= set(dropped)


def test_many_connections_between_three_nodes() -> None:
    world = World(5, ("1.1.0.1", "1.1.0.5", "1.2.0.1"), **(STORMY | {"loss": 0.1}))
    for index in range(3):
        for port in (7, 8):
            world.node(index).endpoint.listen(port)
    connections = [
        world.connect(index, to, port)
        for _ in range(12)
        for index in range(3)
        for to in range(3)
        for port in (7, 8)
        if index != to
    ]
    sent = [key for _ in range(5) for connection in connections for key in world.send(connection, 2)]
    world.run(40)
    world.check_rest()
    assert set(world.confirmed) == set(sent)
    for node in world.nodes.values():
        assert {(known.local_port, known.remote) for known in node.accepted} <= {
            (port, other) for port in (7, 8) for other in world.nodes
        }
        assert len(node.accepted) == 48


def test_both_ask_at_once() -> None:
    world = World(3)
    one = world.node(0).endpoint.connect(world.now, 7, world.node(1).address, 7)
    two = world.node(1).endpoint.connect(world.now, 7, world.node(0).address, 7)
    sent = world.send(one, 3) + world.send(two, 3)
    world.run(5)
    assert world.node(0).opened == [one]
    assert world.node(1).opened == [two]
    assert set(world.confirmed) == set(sent)


def test_both_close_at_once() -> None:
    world = World(3)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    sent = world.send(connection, 3, flush=False)
    connection.close(world.now)
    world.node(1).accepted[0].close(world.now)
    world.run(100)
    assert set(world.confirmed) == set(sent)
    assert [list(node.closed.values()) for node in world.nodes.values()] == [[CloseReason.CLOSED]] * 2


def test_keys_queued_before_close_still_arrive() -> None:
    world = World(4, loss=0.3)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    sent = world.send(connection, 500)
    connection.close(world.now)
    assert not connection.writable
    with pytest.raises(LocalProtocolError, match="after close"):
        connection.send_keys(world.now, [(uuid4(), 1, 32)])
    world.run(100)
    assert set(world.confirmed) == set(sent)
    assert world.node(0).closed == {connection: CloseReason.CLOSED}


def test_keys_given_to_a_connection_that_the_peer_closes_are_confirmed_or_lost() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    world.node(1).accepted[0].close(world.now)
    world.run(0.0101)
    assert not connection.writable
    late = world.send(connection)
    world.run(1)
    assert world.lost == dict.fromkeys(late, 1)
    assert not world.delivered


def test_abort_loses_what_is_unconfirmed_and_tells_the_peer() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    confirmed = world.send(connection, 3)
    world.run(1)
    world.faults.loss = 1.0
    lost = world.send(connection, 5)
    world.faults.loss = 0.0
    connection.abort(world.now)
    connection.abort(world.now)
    world.run(1)
    assert world.confirmed == dict.fromkeys(confirmed, 1)
    assert world.lost == dict.fromkeys(lost, 1)
    assert world.node(0).closed == {connection: CloseReason.ABORTED}
    assert list(world.node(1).closed.values()) == [CloseReason.RESET]


def test_keys_not_taken_before_an_abort_are_not_acknowledged() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    keys = world.send(connection)
    _, _, to, clear, handles = world._under_way.pop()
    world.deliver(to, clear, handles)
    assert world.node(1).endpoint.outgoing() == []  # the event was not handed over
    world._watch(world.node(1), world.node(1).endpoint.events()[0])
    world.node(1).accepted[0].abort(world.now)
    world.run(1)
    assert world.lost == dict.fromkeys(keys, 1)
    assert not world.confirmed


def test_a_peer_that_falls_silent_is_given_up() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7)
    busy, idle = world.connect(0, 1, 7), world.connect(0, 1, 7)
    world.run(1)
    world.faults.loss = 1.0
    world.send(busy)
    world.run(GIVE_UP_S - 1)
    assert not world.node(0).closed
    world.run(2)
    assert world.node(0).closed == {busy: CloseReason.TIMEOUT}
    world.run(IDLE_S + IDLE_STAGGER_S + PROBE_GIVE_UP_S)
    assert world.node(0).closed == {busy: CloseReason.TIMEOUT, idle: CloseReason.TIMEOUT}
    assert set(world.node(1).closed.values()) == {CloseReason.TIMEOUT}


def test_an_idle_connection_lives_on_a_few_probes() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    before = world.packets["control"]
    world.run(10 * IDLE_S)
    assert connection.state is State.ESTABLISHED
    assert before + 10 <= world.packets["control"] <= before + 22


def test_shut_window_stops_and_opens_the_sender() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7, window=10)
    connection = world.connect(0, 1, 7)
    sent = world.send(connection, 40)
    world.run(5)
    assert len(world.confirmed) == len(world.delivered) == 10
    world.node(1).accepted[0].set_window(world.now, 5)
    world.run(1)
    assert len(world.confirmed) == 15
    world.run(2 * GIVE_UP_S)
    assert connection.state is State.ESTABLISHED
    world.node(1).accepted[0].set_window(world.now, None)
    world.run(1)
    assert set(world.confirmed) == set(sent)


def test_a_lost_window_update_is_probed_for() -> None:
    world = World(4)
    world.node(1).endpoint.listen(7, window=0)
    connection = world.connect(0, 1, 7)
    sent = world.send(connection, 3)
    world.run(5)
    world.faults.loss = 1.0
    world.node(1).accepted[0].set_window(world.now, 100)
    world.flush()
    world.faults.loss = 0.0
    assert not world.delivered
    world.run(30)
    assert set(world.confirmed) == set(sent)


def test_the_queue_has_an_end_and_keys_a_length() -> None:
    world = World(4)
    connection = world.connect(0, 1, 7)
    world.send(connection, connection.room)
    assert connection.room == 0
    with pytest.raises(LocalProtocolError, match="room"):
        world.send(connection)
    other = world.connect(0, 1, 8)
    for length in (0, packet.LONGEST_KEY_BYTES + 1):
        with pytest.raises(LocalProtocolError, match="bytes"):
            world.send(other, 1, length)
    assert MAX_QUEUED_KEYS >= WINDOW_KEYS


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 400), st.floats(0, 0.2)), max_size=12),
    st.floats(0, 0.4),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
)
def test_any_traffic_through_any_weather(
    seed: int, batches: list[tuple[int, int, float]], loss: float, duplication: float, reordering: float
) -> None:
    world = World(seed, loss=loss, duplication=duplication, reordering=reordering, corruption=0.01, marking=0.05)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    sent = []
    for count, length, pause in batches:
        sent += world.send(connection, count, length) if connection.writable else []
        world.run(pause)
    connection.close(world.now)
    world.run(400)
    world.check_rest()
    assert set(world.confirmed) | set(world.lost) == set(sent)
    if CloseReason.CLOSED in world.node(0).closed.values():
        assert not world.lost
    assert world.node(0).endpoint.connections == world.node(1).endpoint.connections == ()
    assert all(node.endpoint.deadline() is None for node in world.nodes.values())


@pytest.mark.parametrize("set_up", [True, False])
def test_a_new_way_is_tried_at_once_after_an_outage(set_up: bool) -> None:
    """Not when the timer comes up that backed off meanwhile; and a change without an outage sends nothing."""
    world = World(5)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    if set_up:
        world.run(1)
        sent = world.packets.total()
        world.node(0).endpoint.way_changed(world.now)
        world.run(1)
        assert world.packets.total() == sent
        world.faults.loss = 1.0
        world.send(connection)
    else:
        world = World(5, loss=1.0)
        world.node(1).endpoint.listen(7)
        connection = world.connect(0, 1, 7)
    world.run(4.0)  # the next transmission would come seconds later
    world.faults.loss = 0.0
    world.node(0).endpoint.way_changed(world.now)
    world.run(0.1)
    assert connection.state is State.ESTABLISHED
    assert world.confirmed.total() == int(set_up)
