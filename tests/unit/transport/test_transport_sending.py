"""How a connection sends: losses found early, time-outs, congestion marks, rates, windows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from transport_pipe import World

from appliance.transport import congestion
from appliance.transport.admission import Qos
from appliance.transport.connection import Connection
from appliance.transport.rtt import LOWEST_S

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
