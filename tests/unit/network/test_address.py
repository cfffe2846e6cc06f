from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from appliance.network import address
from appliance.network.errors import LocalProtocolError

A = IPv4Address


def test_areas_of_the_papers_figure_4() -> None:
    assert address.area(A("1.5.7.9")) == IPv4Network("1.5.0.0/16")
    assert address.area_name(A("1.5.7.9")) == A("1.5.0.0")
    assert address.area_broadcast(A("1.5.7.9")) == A("1.5.255.255")
    assert address.same_area(A("1.1.0.1"), A("1.1.255.1"))
    assert not address.same_area(A("1.1.0.1"), A("1.2.0.1"))


def test_networks_of_four_addresses() -> None:
    assert address.node_network(A("1.1.1.6")) == IPv4Network("1.1.1.4/30")
    link = address.link_network(A("1.1.1.6"))
    assert address.link_ends(link) == (A("1.1.1.5"), A("1.1.1.6"))
    with pytest.raises(LocalProtocolError, match="/30"):
        address.link_ends(IPv4Network("1.1.1.0/29"))


@pytest.mark.parametrize("text", ["1.1.0.1", "1.1.1.1", "10.255.254.255", "223.0.0.1"])
def test_addresses_a_node_may_have(text: str) -> None:
    assert address.parse_node_address(text) == A(text)
    assert address.is_node(A(text))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.1", "names no node"),
        ("127.0.0.1", "loop-back"),
        ("224.0.0.5", "multicast"),
        ("240.0.0.1", "reserved"),
        ("1.1.0.0", "area itself"),
        ("1.1.255.255", "broadcast"),
        ("1.1.1", "like 1.1.0.1"),
        ("1.1.1.1/30", "like 1.1.0.1"),
    ],
)
def test_addresses_a_node_may_not_have(text: str, why: str) -> None:
    with pytest.raises(LocalProtocolError, match=why):
        address.parse_node_address(text)
