"""The configuration as the programs see it. Fields have the names and units of the settings in schema.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from pathlib import Path

from appliance.configuration.sitevalues import Service
from appliance.configuration.values import PortRange, SocketAddress

BACKBONE = IPv4Address("0.0.0.0")


@dataclass(frozen=True)
class DeviceConfig:
    """A QKD device of a link: unit qbb-device@NAME."""

    name: str
    kind: str
    fibre: str  # "unix:/path" or "tcp:host:port"
    qber_alarm: float
    clear_after_blocks: int
    stalled_after_s: float
    pending_blocks: int
    on_alarm: str  # "down" or "ignore"


@dataclass(frozen=True)
class LinkConfig:
    """A Q3P link to one neighbour."""

    name: str
    peer: IPv4Address
    listen: SocketAddress
    remote: SocketAddress
    channel: str  # "udp" or "tcp"
    secret: Path | None
    hash: str
    cost: int | str  # "derived"
    key_rate_bps: int
    chunk_bytes: int
    buffer_bytes: int
    window_bytes: int
    high_mark_bytes: int
    low_mark_bytes: int
    store_mark_bytes: int
    store_max_bytes: int
    keepalive_s: float
    dead_after_s: float
    queue_packets: int
    flight_packets: int
    ack_delay_s: float
    rto_s: float
    rto_max_s: float
    give_up_tries: int
    load_window: float
    load_critical: float
    load_store_s: float
    queue_mark_packets: int
    devices: tuple[DeviceConfig, ...]
    network: IPv4Network | None = None  # None: no routing over this link
    area: IPv4Address | None = None  # None: that of the node


@dataclass(frozen=True)
class ForwardingConfig:
    """How session-key packets are forwarded."""

    overload: str  # "default-link" or "drop"
    default_link: str | None
    reports_per_s: float
    reports_at_once: int


@dataclass(frozen=True)
class RouteConfig:
    """A static route of session-key packets."""

    prefix: IPv4Network
    link: str


@dataclass(frozen=True)
class RoutingConfig:
    """The routing unit: unit qbb-routing."""

    role: str = "qbb"  # "qbb", "border" or "qan"
    area: IPv4Address = BACKBONE
    hello_interval_s: int = 10
    dead_interval_s: int = 40
    hold_s: float = 2.0
    damping_half_life_s: float = 15.0
    namespace: str | None = None  # None: where the units are started
    frr: Path = Path("/usr/lib/frr")


@dataclass(frozen=True)
class ClientRule:
    """Who may ask for whose keys. Those of uid, gid, user and group that are given must all match."""

    name: str
    uid: int | None
    gid: int | None
    user: str | None
    group: str | None
    ports: tuple[PortRange, ...]
    applications: tuple[str, ...]  # "esp", "tls"
    names: tuple[str, ...]  # patterns of what it may register
    priority: int  # highest that it may ask for
    keys_per_s: float
    burst_keys: int
    stock_keys: int
    connections: int


@dataclass(frozen=True)
class KeysConfig:
    """The keys service: unit qbb-keys."""

    socket: Path | None  # None: pfkey.sock in the runtime directory
    socket_mode: int
    first_spi: int
    last_spi: int
    shelf_keys: int
    key_lifetime_s: float
    hardware_source: Path | None  # XORed with getrandom
    hardware_entropy_bits: int
    clients: tuple[ClientRule, ...]


@dataclass(frozen=True)
class InterfaceConfig:
    """A network interface of the appliance's machine, found by device or mac."""

    name: str
    device: str | None
    mac: str | None
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    gateway: IPv4Address | IPv6Address | None
    dns: tuple[IPv4Address | IPv6Address, ...]
    dhcp: bool


@dataclass(frozen=True)
class SiteConfig:
    """The machine, where it runs the appliance's image."""

    machine: str | None = None  # None: any
    ssh_keys: tuple[str, ...] = ()
    time_servers: tuple[str, ...] = ()
    let_in: tuple[Service, ...] = ()
    update: str | None = None
    interfaces: tuple[InterfaceConfig, ...] = ()


@dataclass(frozen=True)
class NodeConfig:
    """One node. `source` is the file it was read from, empty when it was none."""

    name: str
    address: IPv4Address
    state_directory: Path
    runtime_directory: Path
    links: tuple[LinkConfig, ...]
    forwarding: ForwardingConfig
    routes: tuple[RouteConfig, ...]
    keys: KeysConfig
    source: str = ""
    routing: RoutingConfig = field(default_factory=RoutingConfig)
    site: SiteConfig = field(default_factory=SiteConfig)

    @property
    def routed_links(self) -> list[LinkConfig]:
        """Those that OSPF runs over."""
        return [link for link in self.links if link.network is not None]

    def area_of(self, link: LinkConfig) -> IPv4Address:
        return link.area if link.area is not None else self.routing.area

    @property
    def areas(self) -> set[IPv4Address]:
        return {self.routing.area, *(self.area_of(link) for link in self.routed_links)}

    @property
    def device_socket(self) -> Path:
        return self.runtime_directory / "device.sock"

    @property
    def ring_socket(self) -> Path:
        return self.runtime_directory / "ring.sock"

    @property
    def routing_socket(self) -> Path:
        """Between qbb-dataplane and qbb-routing."""
        return self.runtime_directory / "routing.sock"

    @property
    def registry_socket(self) -> Path:
        """Where qbb-routing takes and finds registrations."""
        return self.runtime_directory / "registry.sock"

    @property
    def pfkey_socket(self) -> Path:
        return self.keys.socket or self.runtime_directory / "pfkey.sock"

    def control_socket(self, unit: str) -> Path:
        """`unit`: "dataplane", "keys", "routing" or "device-NAME"."""
        return self.runtime_directory / f"{unit}.control"

    def link_state(self, link: str) -> Path:
        return self.state_directory / "dataplane" / link

    def link(self, name: str) -> LinkConfig:
        """Raises KeyError."""
        return {link.name: link for link in self.links}[name]

    def device(self, name: str) -> tuple[LinkConfig, DeviceConfig]:
        """The device and the link that it feeds; raises KeyError."""
        return {device.name: (link, device) for link in self.links for device in link.devices}[name]
