"""Kinds of values of the table [site]: what the appliance's image does with its machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)

from appliance.configuration.errors import WrongValue
from appliance.configuration.values import HOST_NAME, Kind, quote, several, shorten, text_of

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
DEVICE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,14}", re.ASCII)
SSH_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+=*( [ -~]*)?", re.ASCII)
URL = re.compile(r"(https|http|file)://[!-~]+", re.ASCII)
PROTOCOLS = ("esp", "ah", "icmp")


@dataclass(frozen=True)
class Service:
    """What may come in: a protocol of IP, with its port where it has ports."""

    protocol: str
    port: int | None = None

    def __str__(self) -> str:
        return self.protocol if self.port is None else f"{self.protocol}/{self.port}"


def _parse_machine(value: object) -> str:
    text = text_of(value).strip()
    if not re.fullmatch(r"[!-~][ -~]{0,127}", text, re.ASCII):
        raise WrongValue(f"{shorten(value)} is neither a UUID nor a serial number")
    return text


def _parse_mac(value: object) -> str:
    text = text_of(value).lower().replace("-", ":")
    if not MAC.fullmatch(text):
        raise WrongValue(f"{shorten(value)} is not a hardware address")
    return text


def _parse_device(value: object) -> str:
    text = text_of(value)
    if not DEVICE.fullmatch(text):
        raise WrongValue(f"{shorten(value)} is not a network interface's name")
    return text


def _parse_interface_address(value: object) -> IPv4Interface | IPv6Interface:
    text = text_of(value)
    try:
        if "/" not in text or "%" in text:
            raise ValueError
        own = ip_interface(text)
    except ValueError:
        raise WrongValue(f"{shorten(value)} is not an address with the length of its network's prefix") from None
    if (trouble := why_no_machine(own.ip, own.network)) is not None:
        example = f"{own.network[1]}/{own.network.prefixlen}"
        raise WrongValue(f"{own.ip} is {trouble}", f'an address of one machine in it, such as "{example}", is wanted')
    return own


def why_no_machine(address: IPv4Address | IPv6Address, network: IPv4Network | IPv6Network) -> str | None:
    """Networks of one or two addresses have none to spare (RFC 3021, RFC 6164)."""
    if network.num_addresses <= 2:
        return None
    if address == network.network_address:
        return f"the address of the network {network} itself"
    if address.version == 4 and address == network.broadcast_address:
        return f"the broadcast address of the network {network}"
    return None


def _parse_address(value: object) -> IPv4Address | IPv6Address:
    text = text_of(value)
    try:
        if "%" in text:  # the interface that it stands in says which network card
            raise ValueError
        return ip_address(text)
    except ValueError:
        raise WrongValue(f"{shorten(value)} is not an address") from None


def _parse_ssh_key(value: object) -> str:
    text = text_of(value).strip()
    if not SSH_KEY.fullmatch(text):
        raise WrongValue(f"{shorten(value)} is not a public SSH key")
    return text


def _parse_host(value: object) -> str:
    text = text_of(value)
    if not HOST_NAME.fullmatch(text):
        try:
            return str(ip_address(text))
        except ValueError:
            raise WrongValue(f"{shorten(value)} is neither a host name nor an address") from None
    return text


def _parse_service(value: object) -> Service:
    text = text_of(value)
    if text in PROTOCOLS:
        return Service(text)
    match = re.fullmatch(r"(udp|tcp)/([0-9]{1,5})", text, re.ASCII)
    if match is None or not 1 <= int(match[2]) <= 65535:
        raise WrongValue(f"{shorten(value)} is not a service")
    return Service(match[1], int(match[2]))


def _parse_url(value: object) -> str:
    text = text_of(value)
    if not URL.fullmatch(text):
        raise WrongValue(f"{shorten(value)} is not an address of updates")
    return text


machine = Kind(
    "machine", "the machine's UUID or serial number is wanted, as its console shows it", _parse_machine, quote
)
mac = Kind("hardware address", 'a hardware address such as "52:54:00:12:34:56" is wanted', _parse_mac, quote)
device = Kind("interface", 'an interface\'s name such as "enp1s0" is wanted', _parse_device, quote)
interface_address = Kind("address", 'an address such as "192.0.2.1/24" is wanted', _parse_interface_address, quote)
address = Kind("address", 'an address such as "192.0.2.254" is wanted', _parse_address, quote)
ssh_key = Kind("key", 'a line such as "ssh-ed25519 AAAA... name" is wanted', _parse_ssh_key, quote)
host = Kind("host", 'a host such as "ntp.example.org" is wanted', _parse_host, quote)
service = Kind("service", '"udp/PORT", "tcp/PORT", "esp", "ah" or "icmp" is wanted', _parse_service, quote)
url = Kind(
    "URL", 'a URL such as "https://updates.example.org/qbb/" or "http://192.0.2.80/qbb/" is wanted', _parse_url, quote
)

interface_addresses = several(interface_address, 'a list such as ["192.0.2.1/24"] is wanted')
addresses = several(address, 'a list such as ["192.0.2.53"] is wanted')
ssh_keys = several(ssh_key, 'a list such as ["ssh-ed25519 AAAA... name"] is wanted')
hosts = several(host, 'a list such as ["ntp.example.org"] is wanted')
services = several(service, 'a list such as ["esp", "udp/500"] is wanted')
