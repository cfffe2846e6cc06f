"""The exchange played out: statistics, blocks, an eavesdropper, a cut."""

from __future__ import annotations

import math
from random import Random

import pytest

from appliance.devices import decoystate
from appliance.devices.decoystate import GYS
from appliance.devices.simulated import Batch, Discarded, Event, Exchange, Fibre, NewBlock, binomial

SECOND = 2_000_000  # pulses


def exchange(seed: int = 1, **fibre: object) -> Exchange:
    random = Random(seed)
    return Exchange(random, random.randbytes, first_id=1000, fibre=Fibre(**fibre))  # type: ignore[arg-type]


def play(some: Exchange, seconds: int, pulses: int = SECOND) -> list[Event]:
    return [event for _ in range(seconds) for event in some.play(pulses)]


def blocks(events: list[Event]) -> list[NewBlock]:
    return [event for event in events if isinstance(event, NewBlock)]


@pytest.mark.parametrize(("n", "p"), [(50, 0.3), (1000, 0.02), (10**6, 3e-5), (10**9, 0.4), (10**12, 1e-11)])
def test_binomial_draws_have_the_mean_and_variance_of_the_law(n: int, p: float) -> None:
    random = Random(7)
    draws = [binomial(n, p, random) for _ in range(3000)]
    mean = sum(draws) / len(draws)
    variance = sum((draw - mean) ** 2 for draw in draws) / len(draws)
    deviation = math.sqrt(n * p * (1 - p))
    assert abs(mean - n * p) < 5 * deviation / math.sqrt(len(draws))
    assert variance == pytest.approx(deviation**2, rel=0.2)


@pytest.mark.parametrize(("n", "p", "expected"), [(0, 0.5, 0), (10**6, 0.0, 0), (10**6, 1.0, 10**6), (10, 1.0, 10)])
def test_certain_draws(n: int, p: float, expected: int) -> None:
    assert binomial(n, p, Random(1)) == expected


def test_the_same_seed_gives_the_same_exchange() -> None:
    assert play(exchange(3), 60) == play(exchange(3), 60)
    assert play(exchange(3), 60) != play(exchange(4), 60)


def test_key_comes_at_the_expected_rate() -> None:
    seconds = 1000
    made = blocks(play(exchange(), seconds))
    bps = sum(8 * block.length_bytes for block in made) / seconds
    assert bps == pytest.approx(0.8 * decoystate.key_rate_bps(GYS, 25), rel=0.1)
    assert [block.id for block in made] == list(range(1000, 1000 + len(made)))
    assert len({bytes(block.seed) for block in made}) == len(made)
    assert all(abs(block.qber - 0.0331) < 0.004 for block in made)


def test_many_blocks_of_one_interval_are_counted_right() -> None:
    made = blocks(play(exchange(), 3, 1000 * SECOND))
    assert sum(8 * block.length_bytes for block in made) / 3000 == pytest.approx(
        0.8 * decoystate.key_rate_bps(GYS, 25), rel=0.05
    )


def test_an_eavesdropper_shows_and_spoils_the_block_in_the_making() -> None:
    some = exchange()
    play(some, 10)
    some.fibre.tapped = 0.5
    events = play(some, 10)
    assert blocks(events) == []
    lost = [event for event in events if isinstance(event, Discarded)]
    assert lost[0].secret_bits > 0
    batches = [event for event in events if isinstance(event, Batch)]
    qber = sum(batch.error_bits for batch in batches) / sum(batch.sifted_bits for batch in batches)
    assert qber == pytest.approx(decoystate.expected(GYS, 25, 0.5).signal_error, abs=0.01)
    some.fibre.tapped = 0.0
    assert blocks(play(some, 60)) != []


def test_the_ends_threshold_holds() -> None:
    some = exchange()
    some.qber_limit = 0.02
    events = play(some, 40)
    assert blocks(events) == []
    assert any(isinstance(event, Discarded) for event in events)


def test_a_cut_fibre_leaves_dark_counts_and_keeps_what_was_gathered() -> None:
    some = exchange()
    play(some, 20)
    some.fibre.cut = True
    events = play(some, 100)
    assert sum(event.clicks for event in events if isinstance(event, Batch)) < 1000
    assert blocks(events) == []
    some.fibre.cut = False
    assert blocks(play(some, 40)) != []


def test_an_end_that_lost_its_part_starts_the_block_again() -> None:
    some = exchange()
    while not blocks(play(some, 1)):
        pass
    play(some, 20)
    some.restart()
    assert blocks(play(some, 20)) == []


def test_no_key_beyond_the_longest_distance() -> None:
    assert blocks(play(exchange(distance_km=170.0), 300)) == []
