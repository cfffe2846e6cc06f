"""A whole network from nothing to all links up and all routes known, against FRR alone in the same topology.

Ours: `qbb lab up`, with the start of every unit, fibres, hellos, stores that charge to their high marks, and FRR's
daemons over the links. The reference: the same daemons with the same timers over veth pairs, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.frralone import frr_alone, version
from tests.bench.labs import lab
from tests.bench.result import Row, Sense, turns_of

NETWORK = """
[lab]
routing = "ospf"

[topology]
kind = "random"
nodes = {nodes}
link_kind = "fibre"

[[kind]]
name = "fibre"
key_rate = "100 kbit/s"
"""
TARGETS = {20: 8.0, 50: 8.0}


def all_routes(quick: bool) -> Iterator[Row]:
    """Networks of 20 and 50 nodes: start to all links up and all routes known, against FRR alone."""
    for nodes, turns in ((4, 1),) if quick else ((20, 5), (50, 3)):
        pairs, links = [], 0
        for _ in range(turns):
            with lab(NETWORK.format(nodes=nodes)) as made:
                ours_s, links = made.up_s, len(made.design.links)
            with frr_alone(made.design) as alone:
                pairs.append((ours_s, alone.start()))
        yield turns_of(
            f"{nodes} nodes, {links} links: start to all routes",
            pairs,
            "s",
            f"{version()}, on veth pairs: start to all routes",
            target=TARGETS.get(nodes),
            sense=Sense.AT_MOST,
        )
