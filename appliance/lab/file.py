"""A lab file, TOML: `load(path)` gives a LabFile or raises ConfigurationErrors with every problem.

    [lab]
    name = "square"

    [[node]]
    name = "paris"

    [[link]]
    ends = ["paris", "vienna"]
    cost = [6, 5]
    distance_km = 25.0

Settings are in schema.py, what several tables must agree in is in checks.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from appliance.configuration.errors import ConfigurationErrors
from appliance.configuration.reader import Reader, text_of, toml
from appliance.devices import decoystate
from appliance.devices.decoystate import GYS
from appliance.lab import checks, schema
from appliance.lab.generators import GENERATORS, node_name
from appliance.lab.model import LabFile, LabLink, LabNode

Raw = dict[str, Any]
DEFAULT_AREA = IPv4Address("1.1.0.0")
BACKBONE = IPv4Address("0.0.0.0")
BACKBONE_ADDRESSES = IPv4Address("1.0.0.0")  # where nodes of the backbone get theirs, which has no network of its own
NODE_NETWORK = 4  # addresses of a node's own /30
LIGHT: Mapping[str, Any] = {"distance_km": 10.0, "channel": "udp", "devices": 1, "key_rate": None, "speed": None}
DEFAULT_RATE_BPS = 100_000


def load(path: str | Path) -> LabFile:
    """Raises ConfigurationErrors, also when the file cannot be read."""
    return parse(text_of(path), str(path))


def parse(text: str, source: str = "") -> LabFile:
    """Raises ConfigurationErrors."""
    document = toml(text, source)
    reader = Reader(text, source, {})
    reader.unknown(document, [table.name for table in schema.TABLES], (), "")
    read = {table.name: reader.tables(document, table, (), "") for table in schema.TABLES if table.name in document}
    if "lab" not in document:
        reader.complain((), "lab", "is missing", '[lab] with name = "..." is wanted')
    if reader.problems:
        raise ConfigurationErrors(reader.problems)
    topology = read.get("topology")
    nodes: list[Raw] = [*(_generated_nodes(topology) if topology else ()), *read.get("node", ())]
    links: list[Raw] = [*(_generated_links(topology) if topology else ()), *read.get("link", ())]
    kinds: dict[str, Raw] = {kind["name"]: kind for kind in read.get("kind", ())}
    for number, link in enumerate(read.get("link", ()), 1):
        link["label"] = f"link number {number}" if link["name"] is None else ""
    for link in links:
        link["name"] = link["name"] or "-".join(link["ends"])
    # Each step needs what the one before has made sure of; generators run when it is their turn.
    steps = (
        checks.names(nodes, links, read.get("kind", ()), topology),
        checks.addresses(nodes),
        checks.networks(nodes),
        _give_addresses(nodes),
        checks.areas(nodes, links),
        checks.borders(nodes, links),
        checks.reach(nodes, links),
        checks.parts(nodes, links),
        _light(links, kinds),
    )
    for step in steps:
        reader.problems += [reader.placed(*problem) for problem in step]
        if reader.problems:
            raise ConfigurationErrors(reader.problems)
    return LabFile(
        read["lab"]["name"],
        read["lab"]["routing"],
        tuple(LabNode(**node) for node in nodes),
        tuple(LabLink(**{key: value for key, value in link.items() if key not in ("kind", "label")}) for link in links),
        source,
    )


def _generated_nodes(topology: Raw) -> list[Raw]:
    made: Raw = {"address": None, "role": "qbb", "area": topology["area"]}
    return [{"name": node_name(number), **made} for number in range(topology["nodes"])]


def _generated_links(topology: Raw) -> list[Raw]:
    made: Raw = {"name": None, "kind": topology["link_kind"], "area": topology["area"], "cost": (10, 10)}
    made |= dict.fromkeys(LIGHT)
    pairs = GENERATORS[topology["kind"]](topology["nodes"], topology["seed"], topology["degree"])
    return [{"ends": (node_name(one), node_name(other)), **made} for one, other in pairs]


def _give_addresses(nodes: list[Raw]) -> Iterator[checks.Found]:
    """The next free /30 of the area, to those that have none."""
    taken = {int(node["address"]) // NODE_NETWORK for node in nodes if node["address"] is not None}
    for node in nodes:
        node["area"] = DEFAULT_AREA if node["area"] is None else node["area"]
        if node["address"] is None:
            first = BACKBONE_ADDRESSES if node["area"] == BACKBONE else node["area"]
            network = next(n for n in range(int(first) // NODE_NETWORK, 1 << 30) if n not in taken)
            taken.add(network)
            node["address"] = IPv4Address(network * NODE_NETWORK + 1)
    yield from ()


def _light(links: list[Raw], kinds: Mapping[str, Raw]) -> Iterator[checks.Found]:
    """What the links' kinds say, and the defaults; key rate and speed, one by the other."""
    for link in links:
        for key, default in LIGHT.items():
            said = (table[key] for table in (link, *checks.ancestors(link["kind"], kinds)) if table[key] is not None)
            link[key] = next(said, default)
        alone_bps = link["devices"] * decoystate.key_rate_bps(GYS, link["distance_km"])
        if alone_bps <= 0:
            longest = decoystate.longest_distance_km(GYS)
            yield checks.link_label(link), f"no key comes over {link['distance_km']:g} km", f"{longest:.0f} km at most"
            continue
        if link["key_rate"] is None:
            link["key_rate"] = DEFAULT_RATE_BPS if link["speed"] is None else max(1, round(link["speed"] * alone_bps))
        if link["speed"] is None:
            link["speed"] = link["key_rate"] / alone_bps
