"""Addresses, name servers and time: what systemd-networkd and systemd-timesyncd read."""

from __future__ import annotations

from appliance.config import InterfaceConfig, SiteConfig

OWN_NAME_SERVERS = ("", *(f"[{section}]\nUseDNS=no" for section in ("DHCPv4", "DHCPv6", "IPv6AcceptRA")))


def network(interface: InterfaceConfig) -> str:
    """A file for systemd-networkd."""
    match = f"MACAddress={interface.mac}" if interface.mac else f"Name={interface.device}"
    lines = [f"# {interface.name}", "[Match]", match, "Type=ether", "", "[Network]"]
    lines += [f"DHCP={'yes' if interface.dhcp else 'no'}", f"IPv6AcceptRA={'yes' if interface.dhcp else 'no'}"]
    lines += [f"Address={address}" for address in interface.addresses]
    if interface.gateway is not None:
        lines.append(f"Gateway={interface.gateway}")
    lines += [f"DNS={server}" for server in interface.dns]  # systemd-resolved hears of them, as of those of DHCP
    # A node that lost its network for a while keeps its addresses: the links find each other again by themselves.
    lines += ["ConfigureWithoutCarrier=yes" if not interface.dhcp else "KeepConfiguration=dynamic"]
    if interface.dhcp and interface.dns:
        lines += OWN_NAME_SERVERS
    return "\n".join([*lines, ""])


def files(site: SiteConfig) -> dict[str, str]:
    """By name, for a folder of systemd-networkd."""
    return {f"50-{interface.name}.network": network(interface) for interface in site.interfaces}


def time(site: SiteConfig) -> str:
    """For systemd-timesyncd. No server but those that are named, or that DHCP named."""
    return f"[Time]\nNTP={' '.join(site.time_servers)}\nFallbackNTP=\n"
