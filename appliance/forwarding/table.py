"""The extended routing table: destinations and all ways to them, in increasing order of cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import IPv4Network
from typing import NamedTuple

from appliance.native.forward import LOCAL, Way


class Hop(NamedTuple):
    """A link (index) and the cost by it. ``loop_free``: the neighbour is nearer to the destination than this node."""

    link: int
    cost: int
    loop_free: bool


class Destination(NamedTuple):
    """``hops``: the preferred first. None: here."""

    prefix: int
    bits: int
    hops: tuple[Hop, ...] | None

    @property
    def network(self) -> IPv4Network:
        return IPv4Network((self.prefix, self.bits))


def carrying(hops: tuple[Hop, ...], usable: Collection[int]) -> int:
    """The link by which packets go now, as long as load does not matter: the preferred one, or the first without loops
    that carries traffic. When none does, the preferred one."""
    ways = (hop.link for position, hop in enumerate(hops) if _is_best(hop, position, hops[0]) or hop.loop_free)
    return next((link for link in ways if link in usable), hops[0].link)


def merge(*sources: Iterable[Destination]) -> list[Destination]:
    """One table, in order; of a prefix that several sources have, the first source's ways."""
    merged: dict[tuple[int, int], Destination] = {}
    for source in sources:
        for destination in source:
            if destination.hops is None or destination.hops:
                merged.setdefault((destination.prefix, destination.bits), destination)
    return [merged[key] for key in sorted(merged)]


def rows(table: Iterable[Destination]) -> list[Way]:
    """A table in order, as C takes it (csrc/core/table.h)."""
    return [row for destination in table for row in _rows(destination)]


def _rows(destination: Destination) -> list[Way]:
    prefix, bits, hops = destination
    if hops is None:
        return [Way(prefix, bits, LOCAL, 0)]
    return [
        Way(prefix, bits, hop.link, hop.cost, _is_best(hop, position, hops[0]), hop.loop_free)
        for position, hop in enumerate(hops)
    ]


def _is_best(hop: Hop, position: int, first: Hop) -> bool:
    """The preferred way, and those of equal cost whose next hop is nearer as well."""
    return position == 0 or (hop.cost == first.cost and hop.loop_free)
