"""Addresses of hosts."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def plain(address: str) -> IPv4Address | IPv6Address:
    """To be compared: however it is written, and IPv4 as itself where a socket of IPv6 shows it."""
    parsed = ip_address(address)
    return (parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None) or parsed
