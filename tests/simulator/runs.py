"""Runs of many worlds: which seed has which faults, and a command to repeat or extend them.

python -m tests.simulator.runs --seed 17          repeat one world and print what happened
python -m tests.simulator.runs --crashes 5000000  strike that many crash points
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from functools import cache

from appliance.native.link import LinkParams

from .faults import PROFILES, Figures
from .oracle import KeyMisuse
from .probe import ProbeEngine
from .world import World

CRASHES_PER_WORLD = 50


@cache
def engines() -> tuple[ProbeEngine, ProbeEngine]:
    """Two engines for all worlds of this process: mapping key memory anew would take longer than a world."""
    params = LinkParams(link_id=1, master=True)
    return ProbeEngine(params), ProbeEngine(params)


def run(seed: int, crashes: int = CRASHES_PER_WORLD) -> tuple[World, Figures]:
    """One world. Raises KeyMisuse with the last events and the seed."""
    world = World(seed, engines(), PROFILES[seed % len(PROFILES)], crashes)
    try:
        return world, world.run()
    except KeyMisuse as error:
        events = "\n".join(world.log)
        again = f"python -m tests.simulator.runs --seed {seed} --per-world {crashes}"
        raise KeyMisuse(f"{events}\nseed {seed} at {world.now_ns / 1e9:.3f} s: {error}\nagain: {again}") from error


def until(crashes: int, first_seed: int, per_world: int = CRASHES_PER_WORLD) -> Iterator[tuple[int, Figures]]:
    """Worlds from ``first_seed`` on until so many crash points were struck."""
    struck = 0
    for seed in itertools.count(first_seed):
        if struck >= crashes:
            return
        _, figures = run(seed, per_world)
        struck += figures.crashes
        yield seed, figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="run this world alone")
    parser.add_argument("--crashes", type=int, default=100_000, help="crash points to strike (default 100000)")
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--per-world", type=int, default=CRASHES_PER_WORLD, help="crash points a world")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        world, figures = run(arguments.seed, arguments.per_world)
        print("\n".join(world.log))
        print(figures)
        return 0
    began, total = time.monotonic(), Figures()
    for seed, figures in until(arguments.crashes, arguments.first_seed, arguments.per_world):
        total.add(figures)
        rate = total.crashes / (time.monotonic() - began)
        print(f"\rseed {seed}: {total.crashes} crash points, {rate:.0f}/s", end="", file=sys.stderr)
    print(f"\n{total}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
