"""The schema of a lab file: a row per setting, as in the node's own schema.

A kind of link gives settings to the links that name it; what a link says itself holds before what its kind says, that
before what the kind's own `like` says, and so on. None: not said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.configuration import values as v
from appliance.configuration.errors import WrongValue
from appliance.configuration.table import REQUIRED, Setting, Table
from appliance.lab.generators import GENERATORS

LONGEST_NAME = 24  # of a node or link: unix sockets' paths have 107 characters
MOST_NODES = 250


def _parse_name(value: object) -> str:
    name: str = v.name.parse(value)
    if len(name) > LONGEST_NAME:
        raise WrongValue(f"{v.shorten(name)} has {len(name)} characters", f"{LONGEST_NAME} at most are wanted")
    return name


def _parse_ends(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise WrongValue(f"{v.shorten(value)} does not name two nodes")
    first, second = (_parse_name(item) for item in value)
    if first == second:
        raise WrongValue(f"both ends are {first}", "a link joins two different nodes")
    return first, second


def _parse_costs(value: object) -> tuple[int | str, int | str]:
    costs = value if isinstance(value, list) else [value, value]
    if len(costs) != 2:
        raise WrongValue(f"{v.shorten(value)} is not a cost for each direction")
    return v.cost.parse(costs[0]), v.cost.parse(costs[1])


name = v.Kind(
    "name", f"lower-case letters, digits and hyphens are wanted, {LONGEST_NAME} at most", _parse_name, v.quote
)
ends = v.Kind("ends", 'two nodes such as ["paris", "vienna"] are wanted', _parse_ends, str)
costs = v.Kind("costs", "one cost, or two such as [6, 5]: from the first end and from the second", _parse_costs, str)

LIGHT = (
    Setting("distance_km", v.fraction(0, 1000), None, "Length of the fibres; 10 when it is not said.", "km"),
    Setting("key_rate", v.rate(1, 10**9), None,
            "Key that the link's devices make together; 100 kbit/s when neither this nor speed is said.", "bit/s"),
    Setting("speed", v.fraction(0.001, 1e6), None,
            "Pulse rate of the light sources, as a multiple of a real one's; when left out, what gives key_rate."),
    Setting("channel", v.choice("udp", "tcp"), None, "Kind of classical channel; udp when it is not said."),
    Setting("devices", v.integer(1, 8), None, "Pairs of devices, each with a fibre; 1 when it is not said."),
)  # fmt: skip

LAB = Table(
    "lab", "", False,
    "The lab itself.",
    (
        Setting("name", name, REQUIRED, "Name of the lab, by which the other commands find it."),
        Setting("routing", v.choice("static", "ospf"), "static",
                "Who finds the ways through the network: shortest paths computed once, or the nodes' routing units."),
    ),
)  # fmt: skip


def _enough(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if table["kind"] == "ring" and table["nodes"] < 3:
        yield "nodes", f"{table['nodes']} nodes are no ring", "3 at least are wanted"


TOPOLOGY = Table(
    "topology", "", False,
    "Nodes n01, n02 ... and the links between them, made by a rule.",
    (
        Setting("kind", v.choice(*GENERATORS), REQUIRED, "The rule."),
        Setting("nodes", v.integer(2, MOST_NODES), REQUIRED, "How many."),
        Setting("seed", v.integer(0, 2**63), 1, "Of a random topology: the same seed gives the same network."),
        Setting("degree", v.fraction(2, 10), 3.0, "Of a random topology: links of a node, on the average."),
        Setting("area", v.area, None, "Area of all these nodes and links."),
        Setting("link_kind", name, None, "Kind of the links, a [[kind]]."),
    ),
    rules=(_enough,),
)  # fmt: skip

NODE = Table(
    "node", "", True,
    "A node.",
    (
        Setting("name", name, REQUIRED, "Name of the node."),
        Setting("address", v.node_address, None, "Node address; when left out, the next free one of the area."),
        Setting("role", v.choice("qbb", "border", "qan"), "qbb",
                "A border node has links in several areas, nothing goes through a QAN."),
        Setting("area", v.area, None, "Area that the node's address belongs to; 1.1.0.0 when it is not said."),
    ),
)  # fmt: skip

KIND = Table(
    "kind", "", True,
    "A kind of link.",
    (
        Setting("name", name, REQUIRED, "Name of the kind."),
        Setting("like", name, None, "Kind whose settings hold where this one says nothing."),
        *LIGHT,
    ),
)  # fmt: skip

LINK = Table(
    "link", "", True,
    "A link between two nodes.",
    (
        Setting("ends", ends, REQUIRED, "The two nodes."),
        Setting("name", name, None, "Name of the link; when left out, its ends with a hyphen between."),
        Setting("kind", name, None, "Kind of link, a [[kind]]."),
        Setting("area", v.area, None, "Area of the link; when left out, that of the ends that are no border nodes."),
        Setting("cost", costs, (10, 10), "Costs to routing, from the first end and from the second."),
        *LIGHT,
    ),
)  # fmt: skip

TABLES = (LAB, TOPOLOGY, NODE, KIND, LINK)
