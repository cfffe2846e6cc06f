"""The graph of one area and its shortest-path trees (RFC 2328 16.1; paper 2.5.2 and appendix A), by networkx.

Vertices are router ids, and for networks with a designated router ("network", its id), which QBB links do not have. An
edge stands only when both ends advertise it. Nodes that carry no transit (QAN, RFC 6987) have no edges out, except the
root's own: they are ends of paths, never between.

Two distances are wanted of each neighbour N of the root S: with S taken out, which is the cost by the interface to N
when the other interfaces cost infinity; and N's own, with S in, which tells whether N is nearer to a target than S.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx  # type: ignore[import-untyped]

from appliance.routing.lsa import LinkKind, RouterBody
from appliance.routing.lsdb import Area

Vertex = int | tuple[str, int]
Distances = Mapping[Vertex, int]
LEAST_COST = 1  # a cost of 0 makes circles that are as short as none; OSPF allows it for networks only


@dataclass(frozen=True, slots=True)
class Interface:
    """An outgoing link over which the neighbour is fully adjacent. `link` is its name at this node."""

    link: str
    address: int
    area: int
    neighbour: int
    cost: int


def network_vertex(designated: int) -> Vertex:
    return ("network", designated)


class AreaPaths:
    """All distances in one area that the root's table needs. `links`: own interface address -> name of the link."""

    def __init__(self, area: Area, root: int, links: Mapping[int, str]) -> None:
        self.area, self.root = area, root
        self._routers = dict(area.routers())
        self.interfaces = tuple(self._own(links))
        self.by_interface: dict[Interface, Distances] = {}
        self.of_neighbour: dict[int, Distances] = {}
        neighbours = {interface.neighbour for interface in self.interfaces}
        if not neighbours:
            return
        graph = self._graph()
        self.of_neighbour = {neighbour: _distances(graph, neighbour) for neighbour in neighbours}
        graph.remove_edges_from(list(graph.out_edges(root)))
        around = {neighbour: _distances(graph, neighbour) for neighbour in neighbours}
        for interface in self.interfaces:
            self.by_interface[interface] = {
                vertex: interface.cost + cost for vertex, cost in around[interface.neighbour].items()
            }

    def _own(self, links: Mapping[int, str]) -> list[Interface]:
        body = self._routers.get(self.root)
        return [
            Interface(links[link.data], link.data, self.area.id, link.id, max(link.metric, LEAST_COST))
            for link in (body.links if body is not None else ())
            if link.kind == LinkKind.POINT_TO_POINT and link.data in links and self._linked(link.id, self.root)
        ]

    def border(self, router: int) -> bool:
        body = self._routers.get(router)
        return body is not None and body.border

    def _linked(self, router: int, to: int) -> bool:
        body = self._routers.get(router)
        return body is not None and any(
            link.id == to for link in body.links if link.kind in (LinkKind.POINT_TO_POINT, LinkKind.VIRTUAL)
        )

    def _graph(self) -> nx.DiGraph:
        graph = nx.DiGraph()
        attached = {network_vertex(at): frozenset(body.routers) for at, body in self.area.networks()}
        graph.add_nodes_from(self._routers)
        for vertex, routers in attached.items():
            graph.add_weighted_edges_from((vertex, router, 0) for router in routers if router in self._routers)
        for router, body in self._routers.items():
            if body.transit:
                self._edges(graph, router, body, attached)
        return graph

    def _edges(
        self, graph: nx.DiGraph, router: int, body: RouterBody, attached: Mapping[Vertex, frozenset[int]]
    ) -> None:
        """Of several links to one neighbour the cheapest."""
        for link in body.links:
            to: Vertex = link.id
            if link.kind == LinkKind.TRANSIT:
                to = network_vertex(link.id)
                both = router in attached.get(to, ())
            else:
                both = link.kind == LinkKind.POINT_TO_POINT and self._linked(link.id, router)
            if both:
                cost = max(link.metric, LEAST_COST)
                if graph.has_edge(router, to):
                    cost = min(cost, graph.edges[router, to]["weight"])
                graph.add_edge(router, to, weight=cost)


def _distances(graph: nx.DiGraph, source: int) -> Distances:
    found: Distances = nx.single_source_dijkstra_path_length(graph, source)
    return found
