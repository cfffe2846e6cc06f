"""Lab files: what is filled in, and what is wrong with bad ones."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.configuration.errors import ConfigurationErrors
from appliance.lab import file
from appliance.lab.generators import GENERATORS

EXAMPLES = Path(__file__).resolve().parents[3] / "packaging" / "examples"
LAB = '[lab]\nname = "test"\n'
PAIR = '[[node]]\nname = "paris"\n[[node]]\nname = "vienna"\n'
LINE = '[[link]]\nends = ["paris", "vienna"]\n'


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationErrors) as caught:
        file.parse(text, "lab.toml")
    return [str(problem) for problem in caught.value.problems]


def only(text: str) -> str:
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(("name", "nodes", "links"), [("square", 4, 4), ("grid", 20, 31), ("areas", 5, 4)])
def test_examples(name: str, nodes: int, links: int) -> None:
    lab = file.load(EXAMPLES / f"{name}.toml")
    assert (lab.name, len(lab.nodes), len(lab.links)) == (name, nodes, links)


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == {"square", "grid", "areas"}


def test_the_square_is_the_papers() -> None:
    lab = file.load(EXAMPLES / "square.toml")
    costs = {}
    for link in lab.links:
        first, second = link.ends
        costs[first, second], costs[second, first] = link.cost
    assert costs == {
        ("qbb1", "qbb2"): 6, ("qbb2", "qbb1"): 5, ("qbb1", "qbb3"): 7, ("qbb3", "qbb1"): 8,
        ("qbb2", "qbb4"): 4, ("qbb4", "qbb2"): 1, ("qbb3", "qbb4"): 2, ("qbb4", "qbb3"): 2,
    }  # fmt: skip


def test_what_is_left_out_is_filled_in() -> None:
    lab = file.parse(LAB + PAIR + LINE)
    (link,) = lab.links
    assert [str(node.address) for node in lab.nodes] == ["1.1.0.1", "1.1.0.5"]
    assert (link.name, link.area, link.cost) == ("paris-vienna", IPv4Address("1.1.0.0"), (10, 10))
    assert (link.distance_km, link.key_rate, link.channel, link.devices) == (10.0, 100_000, "udp", 1)
    assert lab.routing == "static"


def test_a_link_before_its_kind_before_what_that_is_like() -> None:
    kinds = """
[[kind]]
name = "fast"
like = "long"
key_rate = "2 Mbit/s"
devices = 2
[[kind]]
name = "long"
key_rate = "1 kbit/s"
distance_km = 50.0
channel = "tcp"
"""
    (link,) = file.parse(LAB + PAIR + LINE + 'kind = "fast"\ndevices = 3\n' + kinds).links
    assert (link.devices, link.key_rate, link.distance_km, link.channel) == (3, 2_000_000, 50.0, "tcp")


def test_speed_and_key_rate_follow_from_each_other() -> None:
    (given_rate,) = file.parse(LAB + PAIR + LINE + 'key_rate = "300 kbit/s"\n').links
    (given_speed,) = file.parse(LAB + PAIR + LINE + f"speed = {given_rate.speed!r}\n").links
    assert given_speed.key_rate == 300_000


def test_addresses_that_are_given_are_not_given_twice() -> None:
    nodes = '[[node]]\nname = "paris"\n[[node]]\nname = "vienna"\naddress = "1.1.0.2"\n'
    assert [str(node.address) for node in file.parse(LAB + nodes + LINE).nodes] == ["1.1.0.5", "1.1.0.2"]


BAD = [
    (PAIR + LINE, "lab.toml: lab: is missing"),
    (LAB, "node: there is none; [[node]] or [topology] is wanted"),
    (LAB + PAIR + LINE + "lenght = 5\n", "lab.toml:9: link number 1.lenght: is not known"),
    (LAB + PAIR + '[[link]]\nends = ["paris", "rome"]\n', 'lab.toml:7: link number 1.ends: there is no node "rome"; '
                                                           "nodes are paris, vienna"),
    (LAB + PAIR + '[[link]]\nends = ["paris", "paris"]\n', "both ends are paris; a link joins two different nodes"),
    (LAB + PAIR + '[[link]]\nends = ["paris"]\n', "does not name two nodes"),
    (LAB + PAIR + LINE + LINE.replace("]]", ']]\nname = "other"', 1), "the pair paris and vienna is taken already"),
    (LAB + PAIR + '[[node]]\nname = "paris"\n' + LINE, "name paris is taken already"),
    (LAB + '[[node]]\nname = "paris"\naddress = "1.1.0.1"\n[[node]]\nname = "vienna"\naddress = "1.1.0.1"\n' + LINE,
     'lab.toml:6: node "vienna": address 1.1.0.1 is taken already; it is that of node "paris"'),
    (LAB + '[[node]]\nname = "paris"\naddress = "1.1.0.1"\n[[node]]\nname = "vienna"\naddress = "1.1.0.2"\n' + LINE,
     'lab.toml:6: node "vienna": network 1.1.0.0/30 is taken already; it is that of node "paris"'),
    (LAB + PAIR.replace('paris"', 'paris"\naddress = "1.1.128.1"') + LINE,
     'node "paris".address: 1.1.128.1 is among the addresses of links; 1.1.0.1 to 1.1.127.254 is wanted'),
    (LAB + PAIR + '[[node]]\nname = "rome"\n' + LINE, 'lab.toml:7: node "rome": has no link; '
                                                      '[[link]] with ends = ["rome", ...] is wanted'),
    (LAB + PAIR.replace('vienna"', 'vienna"\nrole = "qan"') + '[[node]]\nname = "a"\n' + LINE
     + '[[link]]\nends = ["a", "vienna"]\n', "cannot be reached from paris but through a QAN"),
    (LAB + PAIR.replace('vienna"', 'vienna"\narea = "1.2.0.0"') + LINE,
     "link number 1: its ends disagree: paris in 1.1.0.0, vienna in 1.2.0.0"),
    (LAB + PAIR + LINE + 'area = "1.3.0.0"\n', 'link number 1.area: 1.3.0.0, but paris is in 1.1.0.0; '
                                                'area = "1.1.0.0" is wanted'),
    (LAB + PAIR.replace('vienna"', 'vienna"\nrole = "border"') + LINE, "a border node of one area"),
    (LAB + '[[node]]\nname = "paris"\n[[node]]\nname = "vienna"\nrole = "border"\narea = "1.2.0.0"\n' + LINE,
     "areas 1.1.0.0, 1.2.0.0 without the backbone; links with area = \"0.0.0.0\" that join them are wanted"),
    (LAB + '[[node]]\nname = "paris"\narea = "1.1.0.0"\naddress = "1.2.0.1"\n[[node]]\nname = "vienna"\n' + LINE,
     "1.2.0.1 is not in area 1.1.0.0"),
    (LAB + PAIR + LINE + 'kind = "city"\n', 'link number 1.kind: there is no kind "city"; there is no [[kind]]'),
    (LAB + PAIR + LINE + "distance_km = 900.0\n", "no key comes over 900 km"),
    (LAB + PAIR + LINE + "cost = [1, 2, 3]\n", "is not a cost for each direction"),
    (LAB + PAIR + LINE + "cost = 0\n", "0 is out of range"),
    (LAB + '[topology]\nkind = "ring"\nnodes = 2\n', "lab.toml:5: topology.nodes: 2 nodes are no ring"),
    (LAB + '[topology]\nkind = "star"\nnodes = 9\n', '"grid" or "ring" or "random" is wanted'),
    (LAB + '[topology]\nkind = "grid"\nnodes = 9\nlink_kind = "city"\n', 'topology.link_kind: there is no kind "city"'),
    (LAB.replace("test", "a" * 30) + PAIR + LINE, "24 at most are wanted"),
    (LAB + PAIR.replace("paris", "p" * 20).replace("vienna", "v" * 20) + LINE.replace("paris", "p" * 20)
     .replace("vienna", "v" * 20), "name = ... of 24 characters at most is wanted"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD)
def test_bad_files(text: str, told: str) -> None:
    assert told in only(text)


def test_kinds_that_go_round() -> None:
    kinds = "".join(f'[[kind]]\nname = "{a}"\nlike = "{b}"\n' for a, b in ("ab", "bc", "ca", "da", "ee"))
    found = problems(LAB + PAIR + LINE + 'kind = "d"\n' + kinds)
    assert len(found) == 2
    assert "the kinds go round: a -> b -> c -> a; leave one like out" in found[0]
    assert "the kinds go round: e -> e" in found[1]


def test_a_network_in_two_parts() -> None:
    island = '[[node]]\nname = "a"\n[[node]]\nname = "b"\n[[link]]\nends = ["a", "b"]\n'
    found = problems(LAB + PAIR + LINE + island)
    assert len(found) == 2
    assert 'lab.toml:9: node "a": cannot be reached from paris; a link to the rest is wanted' in found


def test_an_area_that_does_not_touch_the_backbone() -> None:
    text = LAB + "".join(
        f'[[node]]\nname = "{name}"\narea = "{area}"\nrole = "{role}"\n'
        for name, area, role in (
            ("a", "1.1.0.0", "qbb"),
            ("b", "1.1.0.0", "border"),
            ("c", "1.2.0.0", "border"),
            ("d", "1.3.0.0", "qbb"),
            ("e", "0.0.0.0", "qbb"),
        )
    )
    for pair, area in (("ab", "1.1"), ("be", "0.0"), ("bc", "1.2"), ("cd", "1.3")):
        text += f'[[link]]\nends = ["{pair[0]}", "{pair[1]}"]\narea = "{area}.0.0"\n'
    assert "area 1.3.0.0 does not touch the backbone" in only(text)


def test_a_border_node_brings_its_own_network_into_its_area() -> None:
    """So it joins an area in which it has no link."""
    text = LAB + "".join(
        f'[[node]]\nname = "{name}"\narea = "{area}"\nrole = "border"\n'
        for name, area in (("a", "1.1.0.0"), ("b", "1.2.0.0"))
    )
    lab = file.parse(text + '[[link]]\nends = ["a", "b"]\narea = "0.0.0.0"\n')
    assert {str(node.area) for node in lab.nodes} == {"1.1.0.0", "1.2.0.0"}


def chain(*nodes: tuple[str, str, str], links: str) -> str:
    """Nodes (name, area, role); links "ab:1.1 bc:0.0"."""
    text = LAB + "".join(f'[[node]]\nname = "{n}"\narea = "{a}.0.0"\nrole = "{r}"\n' for n, a, r in nodes)
    for link in links.split():
        pair, area = link.split(":")
        text += f'[[link]]\nends = ["{pair[0]}", "{pair[1]}"]\narea = "{area}.0.0"\n'
    return text


def test_an_area_or_a_backbone_in_parts() -> None:
    """Joined, but not by their own links: OSPF would lose one part behind the other's summary."""
    border = "border"
    ends = ("a", "1.1", border), ("b", "1.1", border), ("c", "0.0", "qbb")
    assert 'area 1.1.0.0 is in 2 parts: a | b; links with area = "1.1.0.0" join them' in only(
        chain(*ends, links="ac:0.0 cb:0.0")
    )
    file.parse(chain(*ends, links="ac:0.0 cb:0.0 ab:1.1"))
    halves = ("a", "0.0", "qbb"), ("b", "1.1", border), ("c", "1.1", border), ("d", "0.0", "qbb")
    assert "area 0.0.0.0 is in 2 parts: a, b | c, d" in only(chain(*halves, links="ab:0.0 bc:1.1 cd:0.0"))


@given(st.sampled_from(sorted(GENERATORS)), st.integers(3, 120), st.integers(0, 1000), st.floats(2, 6))
def test_generated_networks_hold_together(kind: str, nodes: int, seed: int, degree: float) -> None:
    topology = f'[topology]\nkind = "{kind}"\nnodes = {nodes}\nseed = {seed}\ndegree = {degree!r}\n'
    lab = file.parse(LAB + topology)  # refuses what is not joined, doubled or without a link
    assert len(lab.nodes) == nodes
    assert lab == file.parse(LAB + topology)


def test_grid_and_ring() -> None:
    assert GENERATORS["grid"](7, 0, 0) == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (3, 6), (4, 5)]
    assert GENERATORS["ring"](4, 0, 0) == [(0, 1), (0, 3), (1, 2), (2, 3)]


@given(st.text(max_size=400))
def test_no_text_does_worse_than_errors(text: str) -> None:
    try:
        file.parse(LAB + text)
    except ConfigurationErrors as errors:
        assert errors.problems
