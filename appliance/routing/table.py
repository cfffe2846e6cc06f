"""The extended routing table (paper 2.5.2, 2.5.3, appendix C): all outgoing links of every destination, cheapest first.

A destination is a network (N) or a node (R). Its path type is intra-area or inter-area; OSPF prefers intra-area paths
at any cost (RFC 2328 11). A node attached to the backbone takes inter-area paths from the backbone's summaries alone
(16.2), and none to the range of an area that it summarises itself.

Which entries may be used is told in the package's essay: the best, and those marked `loop_free`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from typing import NamedTuple

from appliance.routing.lsa import HOST_BITS, INFINITY, LinkKind, LsaType, mask_bits, mask_of
from appliance.routing.lsdb import BACKBONE, Area, Database
from appliance.routing.port import Row
from appliance.routing.spf import AreaPaths, Interface, Vertex, network_vertex


class Path(IntEnum):
    """In OSPF's order of preference."""

    INTRA = 0
    INTER = 1


class Target(NamedTuple):
    """`router`: a node by its id; else a network by prefix and length."""

    router: bool
    prefix: int
    bits: int

    def __str__(self) -> str:
        return f"{IPv4Address(self.prefix)}" + ("" if self.router else f"/{self.bits}")


class Offer(NamedTuple):
    """Somebody in the area reaches the target: `vertex` at `metric` more. Inter-area: the vertex is a border node."""

    vertex: Vertex
    metric: int


@dataclass(frozen=True, slots=True)
class Entry:
    link: str
    neighbour: int
    path: Path
    area: int
    cost: int
    best: bool
    loop_free: bool


@dataclass(frozen=True, slots=True)
class Route:
    """`local`: this node's own network; then `cost` is that of its stub. `area` is the one the path starts in."""

    target: Target
    path: Path
    area: int
    cost: int
    local: bool
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Table:
    routes: Mapping[Target, Route]
    interfaces: tuple[Interface, ...]

    def rows(self, hold: bool) -> list[Row]:
        """Networks that others hold. In the hold time after a change best entries only."""
        found = []
        for route in self.routes.values():
            if route.target.router or route.local:
                continue
            usable = [entry for entry in route.entries if entry.best or (entry.loop_free and not hold)]
            choices = tuple((entry.link, entry.cost, entry.loop_free) for entry in usable)
            if choices:
                found.append(Row(route.target.prefix, route.target.bits, choices))
        return sorted(found, key=lambda row: (-row.bits, row.prefix))

    def reaches(self, router: int) -> bool:
        return Target(True, router, HOST_BITS) in self.routes


class _Candidate(NamedTuple):
    """What one area offers for a target."""

    path: Path
    paths: AreaPaths
    offers: list[Offer]


def compute(database: Database, root: int, links: Mapping[int, str], ranges: Collection[tuple[int, int]] = ()) -> Table:
    """`links`: own interface address -> name of the link. `ranges`: (prefix, bits) that this node summarises."""
    areas = [AreaPaths(area, root, links) for area in database.areas.values()]
    at_backbone = any(paths.area.id == BACKBONE and paths.area.router(root) is not None for paths in areas)
    candidates: dict[Target, list[_Candidate]] = {}
    for paths in areas:
        for target, offers in _intra(paths.area).items():
            candidates.setdefault(target, []).append(_Candidate(Path.INTRA, paths, offers))
        if paths.area.id == BACKBONE or not at_backbone:
            for target, offers in _inter(paths.area, root, ranges).items():
                candidates.setdefault(target, []).append(_Candidate(Path.INTER, paths, offers))
    routes = (_route(target, root, found) for target, found in candidates.items())
    interfaces = tuple(interface for paths in areas for interface in paths.interfaces)
    return Table({route.target: route for route in routes if route is not None}, interfaces)


def _grouped(pairs: Iterable[tuple[Target, Offer]]) -> dict[Target, list[Offer]]:
    grouped: dict[Target, list[Offer]] = {}
    for target, offer in pairs:
        grouped.setdefault(target, []).append(offer)
    return grouped


def _intra(area: Area) -> dict[Target, list[Offer]]:
    def all_offers() -> Iterator[tuple[Target, Offer]]:
        for router, body in area.routers():
            yield Target(True, router, HOST_BITS), Offer(router, 0)
            for link in body.links:
                if link.kind == LinkKind.STUB:
                    yield Target(False, link.id & link.data, mask_bits(link.data)), Offer(router, link.metric)
        for designated, network in area.networks():
            prefix = designated & mask_of(network.bits)
            yield Target(False, prefix, network.bits), Offer(network_vertex(designated), 0)

    return _grouped(all_offers())


def _inter(area: Area, root: int, ranges: Collection[tuple[int, int]]) -> dict[Target, list[Offer]]:
    def all_offers() -> Iterator[tuple[Target, Offer]]:
        for kind in (LsaType.SUMMARY, LsaType.BORDER_SUMMARY):
            for lsa_id, border, body in area.summaries(kind):
                prefix = lsa_id & mask_of(body.bits)
                if body.metric < INFINITY and border != root and (prefix, body.bits) not in ranges:
                    yield Target(kind == LsaType.BORDER_SUMMARY, prefix, body.bits), Offer(border, body.metric)

    return _grouped(all_offers())


def _cheapest(offers: Iterable[Offer], distance: Callable[[Vertex], int | None]) -> int | None:
    costs = [cost + offer.metric for offer in offers if (cost := distance(offer.vertex)) is not None]
    return min(costs, default=None)


def _route(target: Target, root: int, candidates: list[_Candidate]) -> Route | None:
    found: dict[Interface, Entry] = {}
    own: tuple[Path, int, int] | None = None  # by no link: a network of this node
    for path, paths, offers in candidates:
        for offer in offers:
            if offer.vertex == root and path is Path.INTRA:
                own = min(own or (path, offer.metric, paths.area.id), (path, offer.metric, paths.area.id))
        for interface in paths.interfaces:
            cost = _cheapest(offers, paths.by_interface[interface].get)
            if cost is None:
                continue
            entry = Entry(interface.link, interface.neighbour, path, paths.area.id, cost, False, False)
            if interface not in found or _order(entry) < _order(found[interface]):
                found[interface] = entry
    if own is not None:
        return Route(target, own[0], own[2], own[1], True, tuple(sorted(found.values(), key=_order)))
    if not found:
        return None
    chosen = min(found.values(), key=_order)
    candidate = next(c for c in candidates if c.path is chosen.path and c.paths.area.id == chosen.area)
    entries = (_judged(entry, chosen, candidate) for entry in sorted(found.values(), key=_order))
    return Route(target, chosen.path, chosen.area, chosen.cost, False, tuple(entries))


def _order(entry: Entry) -> tuple[Path, int, int, str]:
    """Of equals the one in the area with the higher id, as in RFC 2328 16.4.1; then any, but always the same."""
    return entry.path, entry.cost, -entry.area, entry.link


def _judged(entry: Entry, chosen: Entry, candidate: _Candidate) -> Entry:
    same = entry.path is chosen.path and entry.area == chosen.area
    nearer = same and _nearer(entry.neighbour, chosen.cost, candidate)
    best = same and entry.cost == chosen.cost
    return Entry(entry.link, entry.neighbour, entry.path, entry.area, entry.cost, best, nearer)


def _nearer(neighbour: int, cost: int, candidate: _Candidate) -> bool:
    """Is the neighbour, as it routes itself, nearer to the target than `cost`?

    A border node routes by its own summary, which it advertises of what it reaches over its other areas; in the
    backbone without one it routes by the others' summaries like any node, elsewhere it does not."""
    path, paths, offers = candidate
    if path is Path.INTER and paths.border(neighbour):
        advertised = [offer.metric for offer in offers if offer.vertex == neighbour]
        if advertised:
            return min(advertised) < cost
        if paths.area.id != BACKBONE:
            return False
    distance = _cheapest(offers, paths.of_neighbour[neighbour].get)
    return distance is not None and distance < cost
