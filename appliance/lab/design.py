"""From a lab file to the plan of a network: devices, settings of links, addresses, routes."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from appliance.lab.model import LabFile, LabLink, LabNode
from appliance.lab.paths import first_links
from appliance.lab.plan import DevicePlan, LinkPlan, NetworkPlan, SitePlan, Value

# Units of a node that find ways, by the lab's `routing`.
ROUTING_UNITS: dict[str, tuple[str, ...]] = {"static": (), "ospf": ("frr", "routing")}

BLOCK_BYTES = 4096
INTERVAL_S = 0.5  # of the fibres: half a second's light is counted at once
# Small chunks, so that links charge in seconds at the rates of a lab; a dead neighbour is noticed as soon.
SETTINGS: dict[str, Value] = {"chunk_bytes": "4 KiB", "keepalive_s": 0.5, "dead_after_s": 2.5}
HELLO: dict[str, Value] = {"hello_interval_s": 1, "dead_interval_s": 4}
# Links' own networks lie in the upper half of their area's addresses, those of the backbone in 1.0.128.0.
LINKS_OFFSET = 0x8000
BACKBONE_LINKS = IPv4Address("1.0.0.0")
LINK_NETWORK = 4


def plan(lab: LabFile, mark: str = "") -> NetworkPlan:
    """`mark` begins the names of all namespaces of the run."""
    networks = _networks(lab)
    return NetworkPlan(
        tuple(_site(lab, node, mark) for node in lab.nodes),
        tuple(_link(lab, link, networks[link.name]) for link in lab.links),
    )


def routing_namespace(node: str) -> str:
    """OSPF has a namespace to itself, beside the node's. No node's name has an underscore."""
    return f"{node}_ospf"


def _site(lab: LabFile, node: LabNode, mark: str) -> SitePlan:
    units = ROUTING_UNITS[lab.routing]
    if lab.routing == "static":
        ways = first_links(lab, node.name)
        routes = tuple((f"{lab.node(name).address}/32", link) for name, link in sorted(ways.items()))
        return SitePlan(node.name, str(node.address), routes=routes, units=units)
    routing: dict[str, Value] = {"role": node.role, "area": str(node.area), **HELLO}
    routing["namespace"] = mark + routing_namespace(node.name)
    return SitePlan(node.name, str(node.address), routing=routing, units=units)


def _link(lab: LabFile, link: LabLink, network: IPv4Network) -> LinkPlan:
    speed = link.speed
    devices = tuple(
        DevicePlan(f"{link.name}-{number + 1}", link.distance_km, speed, BLOCK_BYTES, INTERVAL_S)
        for number in range(link.devices)
    )
    settings = {"channel": link.channel, "key_rate_bps": link.key_rate, **SETTINGS}
    if lab.routing != "static":
        settings |= {"network": str(network), "area": str(link.area)}
    return LinkPlan(link.name, link.ends, devices, settings, link.cost)


def _networks(lab: LabFile) -> dict[str, IPv4Network]:
    """A /30 for each link, in its area."""
    given: dict[IPv4Address, int] = {}
    found = {}
    for link in lab.links:
        number = given[link.area] = given.get(link.area, -1) + 1
        base = link.area if int(link.area) else BACKBONE_LINKS
        found[link.name] = IPv4Network((int(base) + LINKS_OFFSET + LINK_NETWORK * number, 30))
    return found
