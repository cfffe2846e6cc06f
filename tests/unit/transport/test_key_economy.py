"""What the transport costs in key: each packet its keys' pad and a tag of 16 bytes, on every hop."""

from __future__ import annotations

import pytest
from transport_pipe import World

KEY_BYTES = 32


def spent_per_delivered(batch: int, interval_s: float, seconds: float = 20.0, **faults: float) -> float:
    """Key bytes spent on one hop, for each byte of key confirmed, set-up and close included."""
    world = World(1, **faults)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    for _ in range(int(seconds / interval_s)):
        world.send(connection, batch, KEY_BYTES)
        world.run(interval_s)
    connection.close(world.now)
    world.run(2)
    assert len(world.confirmed) == len(world.content)
    return world.key_bytes / (len(world.confirmed) * KEY_BYTES)


@pytest.mark.parametrize("delay_s", [0.001, 0.01, 0.1])
def test_single_keys_at_100_a_second(delay_s: float) -> None:
    assert spent_per_delivered(1, 0.01, delay_s=delay_s) <= 1.75


@pytest.mark.parametrize("interval_s", [1.0, 0.1])
def test_batches_of_64(interval_s: float) -> None:
    assert spent_per_delivered(64, interval_s) <= 1.1


def test_keys_waiting_together_share_segments() -> None:
    """Two sizes mixed: one segment for each size, not one for each change of size."""
    world = World(1)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    for index in range(20):
        world.send(connection, 1, (32, 36)[index % 2], flush=False)
    world.run(1)
    assert len(world.confirmed) == 20
    assert world.packets["key"] == 2


def test_keys_both_ways_carry_the_acknowledgements() -> None:
    world = World(1)
    world.node(1).endpoint.listen(7)
    connection = world.connect(0, 1, 7)
    world.run(1)
    (accepted,) = world.node(1).accepted
    before = world.packets["control"]
    for _ in range(200):
        world.send(connection)
        world.run(0.005)
        world.send(accepted)
        world.run(0.005)
    world.run(1)
    assert len(world.confirmed) == 400
    assert world.packets["control"] - before <= 20


def test_a_lost_segment_costs_little_more_than_itself() -> None:
    clean = spent_per_delivered(1, 0.01)
    assert spent_per_delivered(1, 0.01, loss=0.01) <= clean * 1.05
