"""Network namespaces under /run/netns, and veth pairs between them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute, NetNS, netns

DIRECTORY = Path(netns.NETNS_RUN_DIR)
DEATH_S = 5.0
NOBODY = "02:00:00:00:00:01"
PERMANENT = 0x80  # NUD_PERMANENT


def path(name: str) -> Path:
    return DIRECTORY / name


def create(name: str) -> None:
    """With its loopback up. Raises OSError."""
    netns.create(name)
    with NetNS(name) as inside:
        inside.link("set", index=1, state="up")


def wire(interface: str, first: tuple[str, str], second: tuple[str, str], prefix_bits: int = 24) -> None:
    """A veth pair named alike at both ends; an end is (namespace, IPv4 address)."""
    peer = {"ifname": interface, "net_ns_fd": second[0]}
    with IPRoute() as here:
        here.link("add", ifname=interface, kind="veth", peer=peer, net_ns_fd=first[0])
    for name, address in (first, second):
        with NetNS(name) as inside:
            index = inside.link_lookup(ifname=interface)[0]
            inside.addr("add", index=index, address=address, prefixlen=prefix_bits)
            inside.link("set", index=index, state="up")


def set_up(name: str, interface: str, up: bool) -> None:
    """Takes one end of a wire down, which cuts it, or up again."""
    with NetNS(name) as inside:
        index = inside.link_lookup(ifname=interface)[0]
        inside.link("set", index=index, state="up" if up else "down")


def lose(name: str, interface: str, address: str, lost: bool) -> None:
    """What is sent to that neighbour gets lost without a word, as in a network far away: it goes to a hardware address
    that nobody has."""
    with NetNS(name) as inside:
        index = inside.link_lookup(ifname=interface)[0]
        if lost:
            inside.neigh("replace", dst=address, lladdr=NOBODY, ifindex=index, state=PERMANENT)
        else:
            inside.neigh("del", dst=address, ifindex=index)


def processes(name: str) -> Iterator[int]:
    """Ids of the processes inside."""
    wanted = path(name).stat()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found = (entry / "ns/net").stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    yield int(entry.name)


def remove(name: str) -> None:
    """With all processes inside, which are killed."""
    end = time.monotonic() + DEATH_S
    with contextlib.suppress(FileNotFoundError):
        while (inside := list(processes(name))) and time.monotonic() < end:
            for pid in inside:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        netns.remove(name)


def existing(prefix: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))
    return []
