"""How a connection sends: losses found early, time-outs, congestion marks, rates, windows."""

from __future__ import annotations

from itertools import pairwise
from uuid import UUID

import pytest
from transport_pipe import World

from appliance.network.errors import RemoteProtocolError
from appliance.transport import congestion
from appliance.transport.admission import Qos
from appliance.transport.connection import Connection
from appliance.transport.receiver import Receiving
from appliance.transport.rtt import LOWEST_S
from appliance.transport.sender import Sending

RTT_S = 0.02


def opened(qos: Qos | None = None, **faults: float) -> tuple[World, Connection]:
    world = World(1, **faults)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7, qos=qos)
    world.run(1)
    return world, connection


def send_into_the_void(world: World, connection: Connection) -> None:
    world.faults.loss = 1.0
    world.send(connection)
    world.faults.loss = 0.0


def test_three_later_ones_reveal_a_loss_before_the_time_out() -> None:
    world, connection = opened()
    send_into_the_void(world, connection)
    for _ in range(4):
        world.send(connection)
    world.run(0.04 + 2 * RTT_S + 0.001)  # an acknowledgement may be delayed once
    assert len(world.confirmed) == 5
    assert world.now < 1001 + LOWEST_S
    assert world.packets["key"] == 6


def test_a_lone_loss_is_repeated_after_the_time_out_and_ever_more_rarely() -> None:
    world, connection = opened()
    world.faults.loss = 1.0
    before = world.packets["key"]
    world.send(connection)
    times = []
    for _ in range(400):
        world.run(0.01)
        if world.packets["key"] - before > len(times):
            times.append(world.now)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) >= 3
    assert all(later == pytest.approx(2 * earlier, abs=0.03) for earlier, later in pairwise(gaps))
    world.faults.loss = 0.0
    world.run(10)
    assert len(world.confirmed) == 1


def test_segments_out_of_order_by_less_than_three_are_not_repeated() -> None:
    world, connection = opened()
    for _ in range(3):
        world.send(connection)
    world._under_way.sort()
    world._under_way = [(at, -serial, *rest) for at, serial, *rest in world._under_way]  # backwards
    world._under_way.sort()
    world.run(1)
    assert len(world.confirmed) == 3
    assert world.packets["key"] == 3


def test_marks_close_the_window_without_a_loss() -> None:
    grown = {}
    for marking in (0.0, 0.2):
        world, connection = opened(marking=marking)
        for _ in range(40):
            world.send(connection, 200, 32)
            world.run(0.1)
        world.run(5)
        assert len(world.confirmed) == 8000
        assert world.node(1).endpoint.dropped == {}
        grown[marking] = connection._sending.congestion.window_bytes
    assert grown[0.2] < grown[0.0] / 2


def test_in_flight_never_exceeds_the_congestion_window_by_more_than_a_segment() -> None:
    world, connection = opened(loss=0.05)
    world.send(connection, 2000)
    control = connection._sending.congestion
    for _ in range(3000):
        sent_before = world.packets["key"]
        world.run(0.001)
        if world.packets["key"] > sent_before:
            assert control.in_flight_bytes <= max(control.window_bytes, congestion.LOWEST_BYTES) + 1240
    world.run(60)
    assert len(world.confirmed) == 2000
    assert control.in_flight_bytes == 0


def test_a_rate_is_kept_over_any_span() -> None:
    rate, burst = 8_000, 2_560  # ten keys of 32 bytes at once, then 31.25 a second
    world, connection = opened(Qos(rate_bps=rate, burst_bits=burst))
    began = world.now
    world.send(connection, 200)
    while len(world.confirmed) < 200:
        world.run(0.05)
        assert len(world.delivered) * 256 <= burst + rate * (world.now - began) + 1
        assert world.now < began + 10
    assert world.now - began == pytest.approx((200 - 10) * 256 / rate, abs=0.2)


def test_closing_waits_for_the_rate() -> None:
    world, connection = opened(Qos(rate_bps=2_560, burst_bits=256))
    sent = world.send(connection, 30)
    connection.close(world.now)
    world.run(10)
    assert set(world.confirmed) == set(sent)
    assert len(world.node(0).closed) == len(world.node(1).closed) == 1


def test_acknowledgements_are_first_immediate_then_delayed() -> None:
    world, connection = opened()
    times = []
    for _ in range(100):
        before = world.packets["control"]
        world.send(connection)
        world.run(0.01)
        if world.packets["control"] > before:
            times.append(world.now)
    assert times[0] == pytest.approx(1001.02, abs=0.011)
    assert all(0.03 < later - earlier < 0.06 for earlier, later in pairwise(times))
    assert 20 <= len(times) <= 26


def one_sent(count: int = 1) -> Sending:
    """A sender with an open window that has sent `count` segments of one key each, at 0, 1, 2 ... seconds."""
    sending = Sending(1, None)
    sending.on_window(1, 1000)
    for index in range(count):
        sending.enqueue([(UUID(int=index), index, 32)])
        assert len(sending.transmit(float(index), finish=False)) == 1
    return sending


def test_karns_rule() -> None:
    sending = one_sent()
    sending.on_time(1.0)
    (again,) = sending.transmit(1.0, finish=False)
    assert (again.times_sent, again.handles) == (2, (0,))
    assert sending.on_acknowledgement(1.01, 2, ()) == [again]
    assert sending.round_trip.smoothed_s is None
    assert sending.round_trip.timeout_s == 2.0  # and stays backed off
    sending.enqueue([(UUID(int=9), 9, 32)])
    sending.transmit(2.0, finish=False)
    sending.on_acknowledgement(2.1, 3, ())
    assert sending.round_trip.smoothed_s == pytest.approx(0.1)


def test_a_loss_reduces_the_window_once_a_flight() -> None:
    sending = one_sent(8)
    before = sending.congestion.window_bytes
    confirmed = sending.on_acknowledgement(7.1, 1, [(3, 9)])  # numbers 1 and 2 are missing
    assert len(confirmed) == 6
    assert sorted(sending.lost) == [1, 2]
    assert sending.congestion.window_bytes == pytest.approx(before * congestion.DECREASE)
    assert sending.congestion.in_flight_bytes == 0
    assert [sent.start for sent in sending.transmit(7.2, finish=True)] == [1, 2, 9]


def test_acknowledging_what_was_not_sent_is_a_fault_of_the_peer() -> None:
    sending = one_sent(3)
    assert sending.restore(4) == 4
    for wrong in (5, 0, 2**31, 2**32 - 1):
        with pytest.raises(RemoteProtocolError, match="acknowledgement"):
            sending.restore(wrong)


def test_sack_of_half_a_segment_confirms_nothing() -> None:
    sending = Sending(1, None)
    sending.on_window(1, 1000)
    sending.enqueue([(UUID(int=index), index, 32) for index in range(10)])
    sending.transmit(0.0, finish=False)
    assert sending.on_acknowledgement(0.1, 1, [(1, 10)]) == []
    assert sending.on_acknowledgement(0.1, 1, [(50, 40), (2**31, 2**31 + 5)]) == []
    assert len(sending.on_acknowledgement(0.1, 1, [(1, 11)])) == 1


def test_a_receiver_takes_nothing_from_before_or_beyond() -> None:
    receiving = Receiving(1_000_000)
    assert receiving.on_keys(0.0, 1_000_000, 5, marked=False)
    assert not receiving.on_keys(0.0, 1_000_000, 5, marked=False)
    for sequence in (1_000_000 - 2**17, 1_000_005 + receiving.window, 5):
        with pytest.raises(RemoteProtocolError):
            receiving.on_keys(0.0, sequence, 1, marked=False)
    receiving.on_fin(0.0, 1_000_007)
    with pytest.raises(RemoteProtocolError):
        receiving.on_keys(0.0, 1_000_007, 1, marked=False)  # after the last
    with pytest.raises(RemoteProtocolError):
        receiving.on_fin(0.0, 1_000_008)
    assert not receiving.finished
    assert receiving.on_keys(0.0, 1_000_005, 2, marked=False)
    assert receiving.finished
