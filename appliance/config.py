"""The node's configuration: `load(path)` gives a NodeConfig or raises ConfigurationErrors (every problem)."""

from __future__ import annotations

from appliance.configuration.errors import ConfigurationErrors, Problem
from appliance.configuration.model import (
    ClientRule,
    DeviceConfig,
    ForwardingConfig,
    InterfaceConfig,
    KeysConfig,
    LinkConfig,
    NodeConfig,
    RouteConfig,
    RoutingConfig,
    SiteConfig,
)
from appliance.configuration.printer import show
from appliance.configuration.reader import check_secrets, credential, load, parse, secret_path
from appliance.configuration.sitevalues import Service
from appliance.configuration.values import PortRange, SocketAddress

__all__ = [
    "ClientRule",
    "ConfigurationErrors",
    "DeviceConfig",
    "ForwardingConfig",
    "InterfaceConfig",
    "KeysConfig",
    "LinkConfig",
    "NodeConfig",
    "PortRange",
    "Problem",
    "RouteConfig",
    "RoutingConfig",
    "Service",
    "SiteConfig",
    "SocketAddress",
    "check_secrets",
    "credential",
    "load",
    "parse",
    "secret_path",
    "show",
]
