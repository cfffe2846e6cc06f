"""Networks made by a rule. Nodes are numbers from 0; links are pairs of them, each once, the lower first."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

Pair = tuple[int, int]


def grid(nodes: int, seed: int, degree: float) -> list[Pair]:
    """As square as may be, filled row by row."""
    columns = math.isqrt(nodes - 1) + 1
    right = [(node, node + 1) for node in range(nodes - 1) if (node + 1) % columns]
    down = [(node, node + columns) for node in range(nodes - columns)]
    return sorted(right + down)


def ring(nodes: int, seed: int, degree: float) -> list[Pair]:
    return sorted((min(node, (node + 1) % nodes), max(node, (node + 1) % nodes)) for node in range(nodes))


def random(nodes: int, seed: int, degree: float) -> list[Pair]:
    """A random tree, so that all are joined, and random links until nodes have `degree` of them on the average."""
    dice = Random(seed)
    links = {(dice.randrange(node), node) for node in range(1, nodes)}
    wanted = min(round(nodes * degree / 2), nodes * (nodes - 1) // 2)
    while len(links) < wanted:
        one, other = sorted(dice.sample(range(nodes), 2))
        links.add((one, other))
    return sorted(links)


GENERATORS: dict[str, Callable[[int, int, float], list[Pair]]] = {"grid": grid, "ring": ring, "random": random}


def node_name(number: int) -> str:
    return f"n{number + 1:02}"
