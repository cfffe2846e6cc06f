"""Shortest paths through a lab, for networks without a routing unit (E. W. Dijkstra, Num. Math. 1, 269 (1959))."""

from __future__ import annotations

import heapq

from appliance.lab.model import LabFile, LabLink
from appliance.routing.cost import cost_of

Step = tuple[int, str, str]  # cost, next node, link


def first_links(lab: LabFile, start: str) -> dict[str, str]:
    """The link by which each other node is reached at the lowest cost; nothing goes through a QAN."""
    found: dict[str, str] = {}
    near: dict[str, list[Step]] = {node.name: [] for node in lab.nodes}
    for link in lab.links:
        for one, other, cost in (*zip(link.ends, reversed(link.ends), link.cost, strict=True),):
            near[one].append((_number(link, cost), other, link.name))
    closed = {node.name for node in lab.nodes if node.role == "qan"} - {start}
    edge = [(cost, node, link) for cost, node, link in near[start]]
    heapq.heapify(edge)
    while edge:
        cost, node, first = heapq.heappop(edge)
        if node in found or node == start:
            continue
        found[node] = first
        for more, beyond, _ in near[node] if node not in closed else ():
            heapq.heappush(edge, (cost + more, beyond, first))
    return found


def _number(link: LabLink, cost: int | str) -> int:
    return cost if isinstance(cost, int) else cost_of(link.key_rate, 0)
