"""The network namespace of the routing unit and FRR: loopback, the node's TUNs, and nothing else.

FRR 8.4 opens ospfd's API on every address, so no other interface may be there: whoever reaches it makes routes.
"""

from __future__ import annotations

import os

from pyroute2 import IPRoute, netns

OWN = ("lo", "qbb")  # how names of interfaces begin that may be there


def enter(name: str | None) -> None:
    """Enters /run/netns/NAME, made when it is not there. Before any socket or TUN is opened. Raises OSError."""
    if name is None:
        return
    if name not in netns.listnetns():
        try:
            netns.create(name)
        except FileExistsError:
            pass  # the other unit was faster
    with open(f"{netns.NETNS_RUN_DIR}/{name}", "rb") as there:  # noqa: PTH123 - a descriptor is wanted
        netns.setns(there.fileno())
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


def strangers() -> list[str]:
    """Interfaces of this namespace that others could come in by."""
    with IPRoute() as netlink:
        names = [link.get_attr("IFLA_IFNAME") for link in netlink.get_links() if link["state"] == "up"]
    return sorted(name for name in names if not name.startswith(OWN))


def identity() -> int:
    """Two processes in one namespace have the same."""
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116 - what it leads to, not the link
