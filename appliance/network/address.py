"""QKD addresses (paper 2.3): IPv4's format, in a network of its own that shares nothing with the Internet's
numbers.

x.y.0.0/16 is an area, x.y.0.0 its name, x.y.255.255 its broadcast. Each QBB link is a /30, and each node owns
a /30 of its own. 1110... is multicast, 1111... reserved, 127.0.0.1 loop-back.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network

from appliance.network.errors import LocalProtocolError

AREA_PREFIX_BITS = 16
LINK_PREFIX_BITS = 30
NODE_PREFIX_BITS = 30

LOOPBACK = IPv4Network("127.0.0.0/8")
MULTICAST = IPv4Network("224.0.0.0/4")
RESERVED = IPv4Network("240.0.0.0/4")
THIS_NETWORK = IPv4Network("0.0.0.0/8")


def parse_node_address(text: str) -> IPv4Address:
    """A node's address from configuration. Raises LocalProtocolError saying what would be right."""
    try:
        address = IPv4Address(text)
    except AddressValueError as error:
        raise LocalProtocolError(f"{text!r} is not an address like 1.1.0.1") from error
    if (trouble := why_not_node(address)) is not None:
        raise LocalProtocolError(f"{address} cannot be a node's address: {trouble}")
    return address


def why_not_node(address: IPv4Address) -> str | None:
    """Why a node or interface cannot have this address; None when it can."""
    for network, name in (
        (THIS_NETWORK, "0.0.0.0/8 names no node"),
        (LOOPBACK, "127.0.0.0/8 is loop-back"),
        (MULTICAST, "1110... is multicast"),
        (RESERVED, "1111... is reserved"),
    ):
        if address in network:
            return name
    if address == area_name(address):
        return "x.y.0.0 names the area itself"
    if address == area_broadcast(address):
        return "x.y.255.255 is the area's broadcast"
    return None


def is_node(address: IPv4Address) -> bool:
    return why_not_node(address) is None


def area(address: IPv4Address) -> IPv4Network:
    """The area that an address lies in."""
    return IPv4Network((int(address), AREA_PREFIX_BITS), strict=False)


def area_name(address: IPv4Address) -> IPv4Address:
    return area(address).network_address


def area_broadcast(address: IPv4Address) -> IPv4Address:
    return area(address).broadcast_address


def same_area(one: IPv4Address, other: IPv4Address) -> bool:
    return area(one) == area(other)


def node_network(address: IPv4Address) -> IPv4Network:
    """The /30 that a node advertises as its own: where the addresses of its applications lie."""
    return IPv4Network((int(address), NODE_PREFIX_BITS), strict=False)


def link_network(address: IPv4Address) -> IPv4Network:
    """The /30 of the link that an interface address belongs to."""
    return IPv4Network((int(address), LINK_PREFIX_BITS), strict=False)


def link_ends(network: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """The two interface addresses of a link's /30, the lower first."""
    if network.prefixlen != LINK_PREFIX_BITS:
        raise LocalProtocolError(f"{network} is no link's network: a QBB link is a /{LINK_PREFIX_BITS}")
    lower, upper = network.hosts()
    return lower, upper
