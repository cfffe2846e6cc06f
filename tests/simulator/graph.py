"""Networks for the simulator: which nodes are joined, what links cost, and each node's extended routing table."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from appliance.forwarding.table import Destination, Hop

Joint = tuple[int, int]  # two nodes, the lower number first
MOST_COST = 9


def line(nodes: int) -> list[Joint]:
    return [(node, node + 1) for node in range(nodes - 1)]


def ring(nodes: int) -> list[Joint]:
    return [*line(nodes), (0, nodes - 1)]


def scattered(nodes: int, random: Random) -> list[Joint]:
    """A random tree, and half as many links again."""
    joints = {(random.randrange(node), node) for node in range(1, nodes)}
    while len(joints) < nodes - 1 + nodes // 2:
        low, high = sorted(random.sample(range(nodes), 2))
        joints.add((low, high))
    return sorted(joints)


def address_of(node: int) -> IPv4Address:
    return IPv4Address("1.1.0.1") + 4 * node


@dataclass
class Graph:
    """``costs``: of each joint, the same both ways."""

    nodes: int
    costs: dict[Joint, int]

    @classmethod
    def of(cls, nodes: int, joints: list[Joint], random: Random) -> Graph:
        return cls(nodes, {joint: random.randint(1, MOST_COST) for joint in joints})

    def neighbours(self, node: int) -> list[int]:
        """By the indexes of the node's links."""
        return [low + high - node for low, high in sorted(self.costs) if node in (low, high)]

    def cost(self, a: int, b: int) -> int:
        return self.costs[min(a, b), max(a, b)]

    def distances(self, source: int) -> list[int]:
        """Dijkstra."""
        found = {source: 0}
        near = {node: self.neighbours(node) for node in range(self.nodes)}
        queue = [(0, source)]
        while queue:
            distance, node = heapq.heappop(queue)
            if distance > found[node]:
                continue
            for other in near[node]:
                there = distance + self.cost(node, other)
                if there < found.get(other, there + 1):
                    found[other] = there
                    heapq.heappush(queue, (there, other))
        return [found[node] for node in range(self.nodes)]

    def tables(self) -> list[list[Destination]]:
        """Of every node: all ways to all others, by increasing cost; loop-free where the neighbour is nearer."""
        distances = [self.distances(node) for node in range(self.nodes)]
        return [self._table(node, distances) for node in range(self.nodes)]

    def _table(self, node: int, distances: list[list[int]]) -> list[Destination]:
        table = [Destination(int(address_of(node)), 32, None)]
        links = list(enumerate(self.neighbours(node)))
        for there in itertools.chain(range(node), range(node + 1, self.nodes)):
            hops = [
                Hop(
                    link,
                    self.cost(node, neighbour) + distances[neighbour][there],
                    distances[neighbour][there] < distances[node][there],
                )
                for link, neighbour in links
            ]
            table.append(Destination(int(address_of(there)), 32, tuple(sorted(hops, key=lambda hop: hop.cost))))
        return sorted(table, key=lambda destination: destination.prefix)
