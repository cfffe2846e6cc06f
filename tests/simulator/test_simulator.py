"""The link under every fault that there is, watched by the key oracle: 100,000 crash points, QBB_CRASHES=N for another
number. Slices have seeds of their own, so that they run on all processors and any one can be repeated alone."""

from __future__ import annotations

import os

import pytest

from .faults import CALM, PROFILES, Figures
from .runs import engines, run, until
from .world import World

CRASHES = int(os.environ.get("QBB_CRASHES", "100000"))
SLICES = 40
SEEDS_OF_A_SLICE = 10**9
ENOUGH_FOR_FIGURES = 1000  # crash points


@pytest.mark.parametrize("number", range(SLICES))
def test_no_word_of_key_covers_two_things(number: int) -> None:
    wanted = max(1, CRASHES // SLICES + (number < CRASHES % SLICES))
    total = Figures()
    for _, figures in until(wanted, first_seed=SEEDS_OF_A_SLICE * number):
        total.add(figures)
    print(total)
    assert total.crashes >= wanted
    assert total.sessions > 0 and total.keys_delivered > 0
    if total.crashes >= ENOUGH_FOR_FIGURES:
        check_that_faults_were_met(total)


def check_that_faults_were_met(total: Figures) -> None:
    """A simulator in which nothing happens finds nothing."""
    assert total.crashes_with_open_chunks > total.crashes // 3
    assert total.keys_delivered > total.crashes // 2
    assert total.rollbacks > total.crashes // 100
    assert min(total.disk_failures, total.full_disks, total.withheld_packets, total.replayed_packets) > 0
    assert total.records["OPEN"] > total.crashes
    assert total.records["CLOSE"] > total.crashes // 50
    assert min(total.records.values()) > 0 and len(total.records) == 5


@pytest.mark.parametrize("profile", range(len(PROFILES)))
def test_same_seed_same_trace(profile: int) -> None:
    first, again, other = (
        run(seed, crashes=10)[1].trace.digest() for seed in (profile, profile, profile + len(PROFILES))
    )
    assert first == again != other


@pytest.mark.parametrize("seed", range(5))
def test_without_faults_every_key_arrives(seed: int) -> None:
    world = World(seed, engines(), CALM, crashes=0)
    figures = world.run(calm_keys=1000)
    under_way = sum(end.engine.stats().queued + end.engine.stats().in_flight for end in world.ends)
    assert figures.keys_sent - figures.keys_delivered <= under_way
    assert figures.sessions == 2 and figures.secrets == 1 and figures.records["VOID"] == 0
    assert figures.records["CLOSE"] > 10
    assert all(not end.machine.rejected for end in world.ends if end.machine is not None)


def test_a_long_outage_at_confirm_ends() -> None:
    """CONFIRM is never given up: with it lost for ever the link would stay in sync."""
    world = World(1, engines(), CALM, crashes=0)
    transmit, cut = world.channel.transmit, False

    def cut_at_confirm(sender: int, packet: bytes) -> None:
        nonlocal cut
        sealed = bool(packet[8] & 0x40)
        if sealed and not cut:
            cut = True
            world.channel.cut(300 * 10**9)
        transmit(sender, packet)

    world.channel.transmit = cut_at_confirm  # type: ignore[method-assign]
    world.run()
    assert cut and world.now_ns > 300 * 10**9
