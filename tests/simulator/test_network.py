"""Whole networks under crashes, losses, changes of the tables and load, watched by one key oracle."""

from __future__ import annotations

from random import Random

import pytest

from .channel import SECOND
from .graph import line, ring, scattered
from .network import CLEAR_SKY, Network, Weather

SHAPES = {
    "line of 3": (3, line(3), 60),
    "ring of 8": (8, ring(8), 60),
    "12 at random": (12, scattered(12, Random(1)), 60),
    "30 at random": (30, scattered(30, Random(2)), 60),
    "100 at random": (100, scattered(100, Random(4)), 40),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_keys_arrive_once_and_no_word_of_key_covers_two_things(shape: str) -> None:
    nodes, joints, crashes = SHAPES[shape]
    network = Network(1, nodes, joints, Weather(), crashes)
    tally = network.run(calm_keys=100)
    assert tally.crashes >= crashes and tally.crashes_with_queue > 0
    assert tally.keys_delivered > 100 and tally.changes > 0


def test_a_hundred_nodes() -> None:
    network = Network(7, 100, scattered(100, Random(3)), CLEAR_SKY, crashes=0)
    tally = network.run(calm_keys=150)
    assert tally.keys_delivered == tally.keys_sent == 150
    assert tally.hops > 3 * 150


def test_load_moves_traffic_to_alternates_and_none_circles() -> None:
    """Links that carry little, and much traffic at once: alternates are taken often."""
    weather = Weather(effects_between_crashes=1500, loss=0, load=(2.0, 0.1, 5.0), burst=8)
    network = Network(3, 12, scattered(12, Random(5)), weather, crashes=8)
    network.run(calm_keys=40)
    assert sum(node.alternates for node in network.nodes) > 100


def test_bursts_overflow_queues_and_cost_no_key() -> None:
    weather = Weather(effects_between_crashes=1000, burst=60)
    network = Network(4, 6, ring(6), weather, crashes=10)
    network.run(calm_keys=20)
    assert sum(node.refused for node in network.nodes) > 0


def test_the_same_seed_gives_the_same_trace() -> None:
    first, again, other = (
        Network(seed, 5, ring(5), Weather(), crashes=5).run(calm_keys=5).trace.digest() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_papers_square_goes_the_other_way_round_when_its_best_link_is_down() -> None:
    """QBB1 to QBB4 (Fig. 18): 9 by QBB3, 10 by QBB2."""
    square = {(0, 1): 6, (0, 2): 7, (1, 3): 4, (2, 3): 2}
    network = Network(5, 4, list(square), CLEAR_SKY, crashes=0)
    network.graph.costs = square
    network._change_tables(hold_ns=0)
    network.run(calm_keys=1)
    first, third = network.nodes[0], network.nodes[2]
    passed = third.passed
    network.send_key(0, 3)
    assert (first.alternates, third.passed) == (0, passed + 1)
    first.ends[1].set_usable(False)
    network.send_key(0, 3)
    assert (first.alternates, third.passed) == (1, passed + 1)
    network._run_for(SECOND)
    assert network.tally.keys_delivered == 3
