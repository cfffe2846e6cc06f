"""What only several tables of a lab file together can show. Each check yields (label, what is wrong, what is right)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any

import networkx as nx  # type: ignore[import-untyped]

from appliance.configuration.reader import duplicates
from appliance.lab.design import LINKS_OFFSET
from appliance.lab.schema import LONGEST_NAME
from appliance.network.address import area_name, node_network

Raw = dict[str, Any]
Found = tuple[str, str, str]
BACKBONE = IPv4Address("0.0.0.0")
INTERFACE = 15  # characters of a network interface's name, which is the link's


def node_label(node: Raw) -> str:
    return f'node "{node["name"]}"'


def link_label(link: Raw) -> str:
    """As the reader calls it: one without a name by its place in the file, `label`."""
    return str(link.get("label") or f'link "{link["name"]}"')


def names(nodes: Sequence[Raw], links: Sequence[Raw], kinds: Iterable[Raw], topology: Raw | None) -> Iterator[Found]:
    """Everything that is named is there, once, and no kind is like itself."""
    known = {node["name"] for node in nodes}
    listed = ", ".join(sorted(known)[:12]) + (" ..." if len(known) > 12 else "")
    kinds = list(kinds)
    by_name = {kind["name"]: kind for kind in kinds}
    kinds_listed = f"kinds are {', '.join(by_name)}" if by_name else "there is no [[kind]]"
    if not nodes:
        yield "node", "there is none", "[[node]] or [topology] is wanted"
    yield from duplicates((node_label(node), f"name {node['name']}") for node in nodes)
    yield from duplicates((link_label(link), f"name {link['name']}") for link in links)
    yield from duplicates((f'kind "{kind["name"]}"', f"name {kind['name']}") for kind in kinds)
    yield from duplicates((link_label(link), f"the pair {' and '.join(sorted(link['ends']))}") for link in links)
    for link in links:
        for end in link["ends"]:
            if end not in known:
                yield f"{link_label(link)}.ends", f'there is no node "{end}"', f"nodes are {listed}"
        if len(link["name"]) > LONGEST_NAME:
            right = f"name = ... of {LONGEST_NAME} characters at most is wanted"
            yield link_label(link), f"its ends' names make one of {len(link['name'])} characters", right
    yield from duplicates(
        (link_label(link), f"at {end}, interface {link['name'][:INTERFACE]}")
        for link in links
        if len(link["name"]) > INTERFACE
        for end in link["ends"]
    )
    users = [(link_label(link), "kind", link["kind"]) for link in links if "label" in link]
    users += [(f'kind "{kind["name"]}"', "like", kind["like"]) for kind in kinds]
    told = set()
    for label, setting, kind in users:
        if kind is not None and kind not in by_name:
            yield f"{label}.{setting}", f'there is no kind "{kind}"', kinds_listed
    if topology is not None and topology["link_kind"] is not None and topology["link_kind"] not in by_name:
        yield "topology.link_kind", f'there is no kind "{topology["link_kind"]}"', kinds_listed
    for kind in kinds:
        chain = cycle(kind["name"], by_name)
        if chain and frozenset(chain) not in told:
            told.add(frozenset(chain))
            yield f'kind "{kind["name"]}".like', f"the kinds go round: {' -> '.join(chain)}", "leave one like out"


def cycle(name: str, kinds: Mapping[str, Raw]) -> list[str]:
    """name, ..., name when the chain of `like` comes back to it; else empty."""
    chain = [name]
    while (name := kinds[chain[-1]]["like"]) in kinds:
        chain.append(name)
        if name == chain[0]:
            return chain
        if name in chain[:-1]:
            return []  # a cycle further on: told where it is
    return []


def ancestors(name: str | None, kinds: Mapping[str, Raw]) -> Iterator[Raw]:
    """A kind and those it is like, the nearest first."""
    while name is not None:
        yield kinds[name]
        name = kinds[name]["like"]


def addresses(nodes: Sequence[Raw]) -> Iterator[Found]:
    given = [node for node in nodes if node["address"] is not None]
    yield from duplicates((node_label(node), f"address {node['address']}") for node in given)
    for node in given:
        if node["area"] is None:
            node["area"] = area_name(node["address"])
        if node["area"] != BACKBONE and area_name(node["address"]) != node["area"]:
            right = f'{node["area"]}/16 is wanted, or area = "{area_name(node["address"])}"'
            yield f"{node_label(node)}.address", f"{node['address']} is not in area {node['area']}", right


def networks(nodes: Sequence[Raw]) -> Iterator[Found]:
    """Each node's /30 is its own, and none is where links have theirs."""
    given = {node["address"]: node for node in nodes if node["address"] is not None}
    claims = [(node_label(node), f"network {node_network(address)}") for address, node in given.items()]
    yield from duplicates(claims)
    for address, node in given.items():
        if int(address) & LINKS_OFFSET:
            last = IPv4Address(int(area_name(address)) + LINKS_OFFSET - 2)
            right = f"{area_name(address) + 1} to {last} is wanted"
            yield f"{node_label(node)}.address", f"{address} is among the addresses of links", right


def areas(nodes: Sequence[Raw], links: Sequence[Raw]) -> Iterator[Found]:
    """Fills in the areas of links, on which the ends must agree."""
    by_name = {node["name"]: node for node in nodes}
    for link in links:
        inner = [by_name[end] for end in link["ends"] if by_name[end]["role"] != "border"]
        wanted = {node["area"] for node in inner} or {by_name[end]["area"] for end in link["ends"]}
        listed = ", ".join(f"{end} in {by_name[end]['area']}" for end in link["ends"])
        if len(wanted) > 1 and inner:
            yield (
                link_label(link),
                f"its ends disagree: {listed}",
                'one area, or an end with role = "border", is wanted',
            )
        elif link["area"] is None and len(wanted) > 1:
            yield f"{link_label(link)}.area", "is missing", f"both ends are border nodes, {listed}: say which area"
        elif link["area"] is not None and inner and link["area"] not in wanted:
            right = f'area = "{inner[0]["area"]}" is wanted'
            yield f"{link_label(link)}.area", f"{link['area']}, but {inner[0]['name']} is in {inner[0]['area']}", right
        elif link["area"] is None:
            link["area"] = wanted.pop()


def borders(nodes: Sequence[Raw], links: Sequence[Raw]) -> Iterator[Found]:
    """Border nodes have a border to mind, and the backbone joins all areas."""
    linked = {node["name"]: {link["area"] for link in links if node["name"] in link["ends"]} for node in nodes}
    touched = {node["name"]: linked[node["name"]] | {node["area"]} for node in nodes}  # its own network counts
    every = set().union(*touched.values())
    for node in nodes:
        if node["role"] == "border" and len(touched[node["name"]]) < 2:
            yield f"{node_label(node)}.role", "a border node of one area", 'links of another area, or role = "qbb"'
    if len(every) < 2:
        return
    if BACKBONE not in every:
        listed = ", ".join(sorted(map(str, every)))
        yield "link", f"areas {listed} without the backbone", 'links with area = "0.0.0.0" that join them are wanted'
        return
    joined = set().union(*(touched[name] for name, found in linked.items() if BACKBONE in found))
    for area in sorted(every - joined - {BACKBONE}):
        right = 'a border node with a link in it and one in area "0.0.0.0" is wanted'
        yield "link", f"area {area} does not touch the backbone", right


def parts(nodes: Sequence[Raw], links: Sequence[Raw]) -> Iterator[Found]:
    """Each area holds together by its own links: what others are told of it is one summary."""
    for area in sorted({node["area"] for node in nodes} | {link["area"] for link in links}):
        inside = [link["ends"] for link in links if link["area"] == area]
        graph = nx.Graph(inside)
        graph.add_nodes_from(node["name"] for node in nodes if node["area"] == area)
        found = sorted(sorted(part) for part in nx.connected_components(graph))
        if len(found) > 1:
            listed = " | ".join(", ".join(part[:6]) + (", ..." if len(part) > 6 else "") for part in found[:4])
            yield "link", f"area {area} is in {len(found)} parts: {listed}", f'links with area = "{area}" join them'


def reach(nodes: Sequence[Raw], links: Sequence[Raw]) -> Iterator[Found]:
    """Every node can be reached from the first, through no QAN."""
    near: dict[str, list[str]] = {node["name"]: [] for node in nodes}
    for link in links:
        one, other = link["ends"]
        near[one].append(other)
        near[other].append(one)
    role = {node["name"]: node["role"] for node in nodes}
    for node in nodes:
        if not near[node["name"]]:
            yield node_label(node), "has no link", f'[[link]] with ends = ["{node["name"]}", ...] is wanted'
    first = next((node["name"] for node in nodes if node["role"] != "qan"), nodes[0]["name"])
    reached, edge = {first}, [first]
    while edge:
        here = edge.pop()
        fresh = set(near[here]) - reached if role[here] != "qan" or here == first else set()
        reached |= fresh
        edge += fresh
    for node in nodes:
        beyond = near[node["name"]]
        if beyond and node["name"] not in reached:
            through = " but through a QAN" if any(role[other] == "qan" for other in beyond) else ""
            yield node_label(node), f"cannot be reached from {first}{through}", "a link to the rest is wanted"
