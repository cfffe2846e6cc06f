"""What a network shall be, and the configuration of each node that follows from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

Value = str | int | float | list[str]
Values = Mapping[str, Value]
PORT = 7301
FIRST_HOST = IPv4Address("10.77.0.1")


@dataclass(frozen=True)
class ClientPlan:
    """A rule of [[keys.client]]; by default the one who runs the lab may do everything."""

    settings: Values = field(
        default_factory=lambda: {"name": "lab", "uid": os.getuid(), "keys_per_s": 1e6, "burst_keys": 1 << 20}
    )


@dataclass(frozen=True)
class SitePlan:
    """A node. `disk_bytes`: its state directory is a file system of this size, in memory. `routes`: prefix and link.
    `units`: those that it has besides dataplane, keys and devices."""

    name: str
    address: str
    clients: tuple[ClientPlan, ...] = (ClientPlan(),)
    keys: Values = field(default_factory=dict)
    disk_bytes: int | None = None
    routes: tuple[tuple[str, str], ...] = ()
    routing: Values = field(default_factory=dict)
    units: tuple[str, ...] = ()


@dataclass(frozen=True)
class DevicePlan:
    """A pair of devices and the fibre between them. `speed` multiplies the pulse rate of the light source."""

    name: str
    distance_km: float = 10.0
    speed: float = 200.0
    block_bytes: int = 4096
    interval_s: float = 0.2
    settings: Values = field(default_factory=dict)


@dataclass(frozen=True)
class LinkPlan:
    """A link between two sites; `settings` are those of [[link]], equal at both ends, `costs` those of each end."""

    name: str
    ends: tuple[str, str]
    devices: tuple[DevicePlan, ...] = (DevicePlan("fibre-1"),)
    settings: Values = field(default_factory=dict)
    costs: tuple[int | str, int | str] = (10, 10)


@dataclass(frozen=True)
class NetworkPlan:
    sites: tuple[SitePlan, ...]
    links: tuple[LinkPlan, ...]

    def site(self, name: str) -> SitePlan:
        return next(site for site in self.sites if site.name == name)

    def links_of(self, site: str) -> list[LinkPlan]:
        return [link for link in self.links if site in link.ends]

    def host(self, link: LinkPlan, site: str) -> IPv4Address:
        """Address of a link's end in the network between: 10.77.LINK.1 and .2, from 10.78.0.1 on for the 257th."""
        return FIRST_HOST + 256 * self.links.index(link) + link.ends.index(site)


QUICK: Values = {
    "key_rate_bps": "1 Mbit/s",
    "chunk_bytes": "16 KiB",
    "keepalive_s": 0.4,
    "dead_after_s": 2.0,
}


def pair(
    *devices: DevicePlan,
    paris: SitePlan | None = None,
    vienna: SitePlan | None = None,
    settings: Values | None = None,
) -> NetworkPlan:
    """Two nodes and one link, named `line`."""
    sites = paris or SitePlan("paris", "1.1.1.1"), vienna or SitePlan("vienna", "1.1.1.2")
    fibres = devices or (DevicePlan("fibre-1"),)
    return NetworkPlan(sites, (LinkPlan("line", ("paris", "vienna"), fibres, {**QUICK, **(settings or {})}),))


def configuration(plan: NetworkPlan, site: SitePlan, state: Path, runtime: Path, secrets: Path, fibres: Path) -> str:
    """The text of node.toml. Secrets are at SECRETS/SITE-LINK.secret, fibres at FIBRES/DEVICE.sock."""
    node: dict[str, Value] = {"name": site.name, "address": site.address}
    node |= {"state_directory": str(state), "runtime_directory": str(runtime)}
    parts = [table("[node]", node)]
    for link in plan.links_of(site.name):
        peer = plan.site(link.ends[1 - link.ends.index(site.name)])
        settings: dict[str, Value] = {
            "name": link.name,
            "peer": peer.address,
            "listen": f"{plan.host(link, site.name)}:{PORT}",
            "remote": f"{plan.host(link, peer.name)}:{PORT}",
            "secret": str(secrets / f"{site.name}-{link.name}.secret"),
            "cost": link.costs[link.ends.index(site.name)],
        }
        parts.append(table("[[link]]", settings | dict(link.settings)))
        for device in link.devices:
            fibre = f"unix:{fibres / device.name}.sock"
            parts.append(table("[[link.device]]", {"name": device.name, "fibre": fibre} | dict(device.settings)))
    parts += [table("[[route]]", {"prefix": prefix, "link": link}) for prefix, link in site.routes]
    parts += [table("[routing]", site.routing)] if site.routing else []
    parts.append(table("[keys]", site.keys))
    parts += [table("[[keys.client]]", client.settings) for client in site.clients]
    return "\n".join(parts)


def table(head: str, settings: Values) -> str:
    """JSON's texts, numbers and lists are TOML's."""
    return "\n".join([head, *_lines(settings.items()), ""])


def _lines(items: Iterable[tuple[str, Value]]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in items]
