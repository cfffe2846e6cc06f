"""Networks for the routing tests: link-state advertisements built byte by byte as RFC 2328 A.4 has them, and an OSPF
network of several areas whose summaries come from an independent shortest-path library (igraph)."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import igraph

from appliance.routing import lsa
from appliance.routing.lsdb import Database

STUB, POINT_TO_POINT = 3, 1
BORDER = 1


def address(text: str) -> int:
    return int(IPv4Address(text))


def network(text: str) -> tuple[int, int]:
    parsed = IPv4Network(text)
    return int(parsed.network_address), parsed.prefixlen


def whole(kind: int, lsa_id: int, router: int, body: bytes, age_s: int = 1) -> bytes:
    return struct.pack("!HBBIIIHH", age_s, 2, kind, lsa_id, router, 0x80000001, 0, 20 + len(body)) + body


def router_lsa(router: int, links: list[tuple[int, int, int, int]], flags: int = 0) -> bytes:
    """links: (kind, id, data, metric)"""
    body = struct.pack("!BBH", flags, 0, len(links))
    body += b"".join(struct.pack("!IIBBH", lid, data, kind, 0, metric) for kind, lid, data, metric in links)
    return whole(1, router, router, body)


def summary_lsa(border: int, prefix: int, bits: int, metric: int, kind: int = 3) -> bytes:
    mask = (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF if kind == 3 else 0
    return whole(kind, prefix, border, struct.pack("!II", mask, metric))


@dataclass
class Net:
    """Routers are numbered from 0. `costs`: (from, to, area) -> cost; a link has both directions. Every router has a
    network of its own, at cost 0, in one of its areas."""

    costs: dict[tuple[int, int, int], int] = field(default_factory=dict)
    home: dict[int, int] = field(default_factory=dict)
    qan: set[int] = field(default_factory=set)

    def id_of(self, router: int) -> int:
        return address("1.0.0.1") + 4 * router

    def router_of(self, router_id: int) -> int:
        return (router_id - address("1.0.0.1")) // 4

    def prefix(self, router: int) -> int:
        return self.id_of(router) - 1

    def areas(self, router: int) -> set[int]:
        return {area for a, _, area in self.costs if a == router} | {self.home[router]}

    def border(self, router: int) -> bool:
        return len(self.areas(router)) > 1

    def in_area(self, area: int) -> list[int]:
        return [router for router in self.home if area in self.areas(router)]

    def all_areas(self) -> set[int]:
        return set().union(*(self.areas(router) for router in self.home))

    def link_address(self, a: int, b: int, area: int) -> int:
        """Of a's interface to b."""
        return address("10.0.0.0") + (area << 20) + 1024 * a + b

    def links(self, router: int) -> dict[int, str]:
        return {self.link_address(a, b, area): f"to{b}" for a, b, area in self.costs if a == router}

    def distances(self, area: int) -> dict[int, dict[int, float]]:
        """Between all routers of an area, QANs never between. By igraph."""
        members = self.in_area(area)
        place = {router: at for at, router in enumerate(members)}
        found = {}
        for source in members:
            edges = {k: c for k, c in self.costs.items() if k[2] == area and (k[0] not in self.qan or k[0] == source)}
            graph = igraph.Graph(len(members), [(place[a], place[b]) for a, b, _ in edges], directed=True)
            row = graph.distances(place[source], weights=list(edges.values()))[0] if edges else []
            row = row or [0.0 if router == source else float("inf") for router in members]
            found[source] = dict(zip(members, row, strict=True))
        return found

    def summaries(self) -> dict[int, dict[tuple[int, int], float]]:
        """area -> (border router, target router) -> metric, as RFC 2328 12.4.3 has border nodes advertise."""
        within = {area: self.distances(area) for area in self.all_areas()}
        found: dict[int, dict[tuple[int, int], float]] = {area: {} for area in self.all_areas()}
        borders = [router for router in self.home if self.border(router)]
        for border in borders:  # intra-area paths go to every other area
            for target, home in self.home.items():
                if home in self.areas(border):
                    cost = within[home][border][target]
                    for area in self.areas(border) - {home}:
                        if cost < float("inf"):
                            found[area][border, target] = cost
        for border in borders:  # what came over the backbone goes to the other areas
            for target, home in self.home.items():
                costs = [
                    within[0][border][other] + metric
                    for (other, of), metric in found[0].items()
                    if of == target and other != border
                ]
                if home not in self.areas(border) and 0 in self.areas(border) and min(costs, default=1e99) < 1e9:
                    for area in self.areas(border) - {0}:
                        found[area][border, target] = min(costs)
        return found

    def databases(self) -> dict[int, Database]:
        """One per router, of LSAs that were bytes before."""
        lsas: dict[int, list[bytes]] = {area: [] for area in self.all_areas()}
        for router in self.home:
            for area in self.areas(router):
                links = [
                    (POINT_TO_POINT, self.id_of(b), self.link_address(a, b, area), 0xFFFF if a in self.qan else cost)
                    for (a, b, of), cost in self.costs.items()
                    if a == router and of == area
                ]
                if self.home[router] == area:
                    links.append((STUB, self.prefix(router), 0xFFFFFFFC, 0))
                flags = BORDER if self.border(router) else 0
                lsas[area].append(router_lsa(self.id_of(router), links, flags))
        for area, entries in self.summaries().items():
            for (border, target), metric in entries.items():
                lsas[area].append(summary_lsa(self.id_of(border), self.prefix(target), 30, int(metric)))
        parsed = {area: [lsa.parse(data) for data in found] for area, found in lsas.items()}
        databases = {}
        for router in self.home:
            databases[router] = Database()
            for area in self.areas(router):
                for found in parsed[area]:
                    databases[router].put(area, found)
        return databases


def random_area(r: random.Random, net: Net, routers: list[int], area: int, extra: float) -> None:
    """A connected graph with asymmetric costs."""
    for at, router in enumerate(routers[1:], 1):
        _link(r, net, router, routers[r.randrange(at)], area)
    for _ in range(int(extra * len(routers))):
        _link(r, net, *r.sample(routers, 2), area)


def _link(r: random.Random, net: Net, a: int, b: int, area: int) -> None:
    net.costs[a, b, area] = r.randint(1, 12)
    net.costs[b, a, area] = r.randint(1, 12)


def one_area(r: random.Random, count: int) -> Net:
    net = Net(home=dict.fromkeys(range(count), 0))
    random_area(r, net, list(range(count)), 0, r.choice([0.5, 1.0, 1.5]))
    return net


def three_areas(r: random.Random) -> Net:
    """Areas 1 and 2 with two border routers each, around a backbone."""
    net = Net(home={})
    backbone = list(range(5))
    borders = {1: [0, 1], 2: [2, 3]}
    net.home.update(dict.fromkeys(backbone, 0))
    inner = {1: list(range(5, 10)), 2: list(range(10, 15))}
    for area, routers in inner.items():
        net.home.update(dict.fromkeys(routers, area))
        random_area(r, net, [*routers, *borders[area]], area, 0.8)
    random_area(r, net, backbone, 0, 0.8)
    return net
