"""TUN interfaces of the node's routing namespace: one per link, one for the node's own network.

The interface lives as long as its descriptor. Carrier is what Q3P says of the link: ospfd hears of it at once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from appliance.network.address import LINK_PREFIX_BITS
from appliance.routing import frrconfig
from appliance.services.passed import descriptors

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETCARRIER = 0x400454CA, 0x400454E2
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PREFIX = "tun-"  # of a descriptor's name, when systemd passes it


def wanted(settings: frrconfig.Settings) -> Iterator[tuple[str, IPv4Interface, int]]:
    """(name, address, MTU) of each: the node's own network, then the links."""
    yield frrconfig.NODE_INTERFACE, frrconfig.node_interface(settings.address), frrconfig.MTU
    for one in settings.interfaces:
        yield one.name, IPv4Interface((one.near, LINK_PREFIX_BITS)), frrconfig.MTU


def passed() -> dict[str, int]:
    """Name of interface -> descriptor, of those that systemd keeps for this unit (see tuns.py)."""
    found = {}
    for fd, name in descriptors().items():
        if name.startswith(PREFIX):
            os.set_blocking(fd, False)
            found[name.removeprefix(PREFIX)] = fd
    return found


class Tun:
    """Opened in the network namespace of this process, unless it is there already: then `fd` is its descriptor. Raises
    OSError, saying what is missing."""

    def __init__(self, name: str, address: IPv4Interface, mtu: int, fd: int | None = None) -> None:
        self.name, self._address = name, address
        if fd is not None:
            self.fd = fd
            self.set_carrier(False)
            return
        self.fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
            self.set_carrier(False)
            self._bring_up(mtu)
        except OSError as error:
            os.close(self.fd)
            raise OSError(error.errno, f"interface {name}: {error.strerror}") from None

    def set_carrier(self, on: bool) -> None:
        """The kernel tells of lost carriers once a second, for all interfaces together, so of the second link that a
        cable takes with it a second late; unless somebody asks for the interface (since Linux 6.8)."""
        fcntl.ioctl(self.fd, TUNSETCARRIER, struct.pack("I", on))
        with contextlib.suppress(OSError), self._netlink() as (netlink, index):
            netlink.link("get", index=index)

    def read(self, most_bytes: int) -> bytes | None:
        """One packet that the kernel sends, None when there is none."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self.fd, most_bytes)
        return None

    def write(self, packet: bytes) -> bool:
        """A packet for the kernel; False when it did not take it (no carrier, no memory), as with any lost packet."""
        try:
            os.write(self.fd, packet)
        except OSError:
            return False
        return True

    def close(self) -> None:
        os.close(self.fd)

    def _bring_up(self, mtu: int) -> None:
        # Without this the kernel sends IPv6 packets of its own. Where it cannot be set, the gate drops them.
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{self.name}/disable_ipv6").write_text("1")
        with self._netlink() as (netlink, index):
            netlink.addr("add", index=index, **self._held())
            netlink.link("set", index=index, mtu=mtu, state="up")

    def announce(self) -> None:
        """Takes the address away and gives it again, so that whoever listens hears of it. Raises OSError."""
        with self._netlink() as (netlink, index):
            netlink.addr("del", index=index, **self._held())
            netlink.addr("add", index=index, **self._held())

    def _held(self) -> dict[str, Any]:
        return {"address": str(self._address.ip), "prefixlen": self._address.network.prefixlen}

    @contextlib.contextmanager
    def _netlink(self) -> Iterator[tuple[IPRoute, int]]:
        try:
            with IPRoute() as netlink:
                (index,) = netlink.link_lookup(ifname=self.name)
                yield netlink, index
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from None
        except ValueError:
            raise OSError(errno.ENODEV, "it vanished") from None
