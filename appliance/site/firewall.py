"""What may come in, as rules for nftables: the links' channels from their neighbours, SSH where there are keys, what
the node file lets in, answers, and as much of ICMP as the internet protocols need. Everything else is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from appliance.config import LinkConfig, NodeConfig, Service

ALWAYS = (
    'iif "lo" accept',
    "ct state established,related accept",
    "ct state invalid drop",
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept",
    "icmp type echo-request limit rate 10/second accept",
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept",
    "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept",
    # A switch with MLD snooping passes neighbour solicitations on to those alone that answered such a query.
    "ip6 saddr fe80::/10 icmpv6 type mld-listener-query accept",
    "icmpv6 type echo-request limit rate 10/second accept",
)
SSH = "tcp dport 22 accept"
# Connection tracking does not know DHCPv6's answers: what was asked went to a multicast address. RFC 8415 does not say
# from which port they come.
DHCP = ("udp sport 67 udp dport 68 accept", "ip6 saddr fe80::/10 udp dport 546 accept")


def rules(node: NodeConfig | None) -> str:
    """Without a node file nothing comes in."""
    lines = [*ALWAYS, *(_named(node) if node is not None else ())]
    body = "\n".join(f"\t\t{line}" for line in lines)
    return f"""flush ruleset
table inet site {{
\tchain input {{
\t\ttype filter hook input priority filter; policy drop;
{body}
\t}}
\tchain forward {{
\t\ttype filter hook forward priority filter; policy drop;
\t}}
}}
"""


def _named(node: NodeConfig) -> Iterator[str]:
    for link in node.links:
        yield _channel(link)
    if node.site.ssh_keys:
        yield SSH
    if any(interface.dhcp for interface in node.site.interfaces):
        yield from DHCP
    for service in node.site.let_in:
        yield _service(service)


def _channel(link: LinkConfig) -> str:
    """The neighbour alone may speak to it, where the node file gives its address and not its name."""
    words = f'{link.channel} dport {link.listen.port} accept comment "link {link.name}"'
    try:
        neighbour = ip_address(link.remote.host)
    except ValueError:
        return words
    return f"{'ip' if neighbour.version == 4 else 'ip6'} saddr {neighbour} {words}"


def _service(service: Service) -> str:
    if service.port is not None:
        return f"{service.protocol} dport {service.port} accept"
    # Words that nft knows by itself; others it looks up in /etc/protocols.
    return f"meta l4proto {'{ icmp, icmpv6 }' if service.protocol == 'icmp' else service.protocol} accept"
