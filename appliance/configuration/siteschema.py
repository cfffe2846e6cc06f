"""The rows of [site]: the machine of the appliance's image. On other machines nothing of it is read but `machine`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from appliance.configuration import sitevalues as s
from appliance.configuration import values as v
from appliance.configuration.table import REQUIRED, Setting, Table


def _found(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if (table["device"] is None) == (table["mac"] is None):
        yield "", "cannot be found", "either device or mac is wanted"


def _addressed(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if table["dhcp"] and table["addresses"]:
        yield "addresses", "stand beside dhcp", "either is wanted"


def _gated(table: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    gateway = table["gateway"]
    if gateway is None:
        return
    networks = [own.network for own in table["addresses"] if gateway in own.network]
    if not networks:
        yield "gateway", f"{gateway} is in none of the networks of addresses", "a neighbour is wanted"
    elif gateway in [own.ip for own in table["addresses"]]:
        yield "gateway", f"{gateway} is this interface's own address", "the router's address is wanted"
    elif (trouble := s.why_no_machine(gateway, networks[0])) is not None:
        yield "gateway", f"{gateway} is {trouble}", "the router's address is wanted"


INTERFACE = Table(
    "interface", "interfaces", True,
    "A network interface of the machine. Those that are not named stay down.",
    (
        Setting("name", v.name, REQUIRED, "What it is for, for people."),
        Setting("device", s.device, None, "The kernel's name of it."),
        Setting("mac", s.mac, None, "Instead of device: its hardware address."),
        Setting("addresses", s.interface_addresses, (), "Its addresses, each with its network's length."),
        Setting("gateway", s.address, None, "The router to all other networks."),
        Setting("dns", s.addresses, (), "Name servers; without any, those that DHCP names."),
        Setting("dhcp", v.boolean, False, "Instead of addresses: ask the network for them, a router and name servers."),
    ),
    rules=(_found, _addressed, _gated),
)  # fmt: skip

SITE = Table(
    "site", "site", False,
    "The machine, where it runs the appliance's image. On other machines their own administration does all this.",
    (
        Setting("machine", s.machine, None,
                "UUID or serial number of the machine that this file is for, as its console shows it. On another one "
                "the image refuses the file."),
        Setting("ssh_keys", s.ssh_keys, (),
                "Public keys of administrators: they may log in as root by SSH. Without any, SSH does not run."),
        Setting("time_servers", s.hosts, (), "NTP servers; without any, those that DHCP names, else none."),
        Setting("let_in", s.services, (),
                "What may come in besides the links' channels, SSH where there are keys, and answers."),
        Setting("update", s.url, None,
                "Where signed updates of the image are: an http, https or file URL. Each is verified by its signature, "
                "so a plain mirror will do; a server of https must have a certificate of a public authority."),
    ),
    (INTERFACE,),
)  # fmt: skip
