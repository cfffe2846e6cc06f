"""A lab as its file describes it, with everything that was left out filled in."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address


@dataclass(frozen=True)
class LabNode:
    name: str
    address: IPv4Address
    role: str  # "qbb", "border" or "qan"
    area: IPv4Address


@dataclass(frozen=True)
class LabLink:
    """`cost`: from the first end and from the second. `key_rate`: bit/s of all devices together."""

    name: str
    ends: tuple[str, str]
    area: IPv4Address
    cost: tuple[int | str, int | str]
    distance_km: float
    key_rate: int
    speed: float
    channel: str
    devices: int


@dataclass(frozen=True)
class LabFile:
    name: str
    routing: str  # "static" or "ospf"
    nodes: tuple[LabNode, ...]
    links: tuple[LabLink, ...]
    source: str = ""

    def node(self, name: str) -> LabNode:
        """Raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    def link(self, name: str) -> LabLink:
        """Raises KeyError."""
        return {link.name: link for link in self.links}[name]

    def links_of(self, node: str) -> list[LabLink]:
        return [link for link in self.links if node in link.ends]
