"""What FRR's zebra and ospfd are told, and how interfaces and addresses of a node are named.

Each link with a network is a point-to-point interface, a TUN with the link's address. The node's own /30 is one more,
NODE_INTERFACE, passive. The routes are not ospfd's to install: their distance of 255 keeps them from the
kernel, for session-key packets never go there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from appliance.network.address import AREA_PREFIX_BITS, link_ends, node_network
from appliance.network.packet import MTU_BYTES

NODE_INTERFACE = "qbbnode"
NODE_COST = 1  # the least that ospfd takes
MTU = MTU_BYTES
BACKBONE = IPv4Address(0)
VERSION_FROM, VERSION_BELOW = (8, 4), (11, 0)  # of FRR, whose API and commands are as here


@dataclass(frozen=True, slots=True)
class Interface:
    """A link as zebra and ospfd see it. `far` is the neighbour's end of the link's network."""

    link: str
    name: str
    near: IPv4Address
    far: IPv4Address
    area: IPv4Address
    cost: int


@dataclass(frozen=True, slots=True)
class Settings:
    node: str  # name
    address: IPv4Address
    area: IPv4Address  # of the node's own network
    qan: bool
    hello_interval_s: int
    dead_interval_s: int
    interfaces: tuple[Interface, ...]

    @property
    def areas(self) -> list[IPv4Address]:
        return sorted({self.area, *(interface.area for interface in self.interfaces)})

    @property
    def ranges(self) -> list[IPv4Network]:
        """What a node in several areas advertises of each but the backbone: x.y.0.0/16 of area x.y.0.0 (paper 2.3)."""
        if len(self.areas) < 2:
            return []
        return [IPv4Network((int(area), AREA_PREFIX_BITS)) for area in self.areas if area != BACKBONE]


def tun_name(index: int) -> str:
    return f"qbb{index}"


def ends(own: IPv4Address, peer: IPv4Address, network: IPv4Network) -> tuple[IPv4Address, IPv4Address]:
    """(near, far): the node with the lower address has the lower end."""
    lower, upper = link_ends(network)
    return (lower, upper) if own < peer else (upper, lower)


def node_interface(address: IPv4Address) -> IPv4Interface:
    return IPv4Interface((int(address), node_network(address).prefixlen))


def zebra(settings: Settings) -> str:
    return f"hostname {settings.node}\nlog stdout errors\n"


def ospfd(settings: Settings) -> str:
    lines = [f"hostname {settings.node}", "log stdout errors"]
    for interface in settings.interfaces:
        lines += [
            f"interface {interface.name}",
            f" ip ospf area {interface.area}",
            " ip ospf network point-to-point",
            f" ip ospf cost {interface.cost}",
            f" ip ospf hello-interval {settings.hello_interval_s}",
            f" ip ospf dead-interval {settings.dead_interval_s}",
        ]
    lines += [
        f"interface {NODE_INTERFACE}",
        f" ip ospf area {settings.area}",
        " ip ospf passive",
        f" ip ospf cost {NODE_COST}",
        "router ospf",
        f" ospf router-id {settings.address}",
        " ospf opaque-lsa",
        " timers throttle spf 0 50 5000",
        " timers throttle lsa all 0",
        " timers lsa min-arrival 0",
        " distance 255",
        *(f" area {network.network_address} range {network}" for network in settings.ranges),
        *([" max-metric router-lsa administrative"] if settings.qan else []),
    ]
    return "\n".join(lines) + "\n"


def version_of(told: str) -> tuple[int, int] | None:
    """The version in what `ospfd --version` says: "ospfd version 8.4.4" -> (8, 4); None when there is none."""
    found = re.search(r"\bversion ([0-9]{1,4})\.([0-9]{1,4})", told)
    return (int(found[1]), int(found[2])) if found else None
