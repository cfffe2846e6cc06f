"""Network namespaces under /run/netns, and veth pairs between them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

DIRECTORY = Path("/run/netns")  # ip-netns(8)
DEATH_S = 5.0
NOBODY = "02:00:00:00:00:01"


def path(name: str) -> Path:
    return DIRECTORY / name


def create(name: str) -> None:
    """With its loopback up. Raises OSError."""
    _ip(None, f"netns add {name}")
    _ip(name, "link set lo up")


def wire(interface: str, first: tuple[str, str], second: tuple[str, str], prefix_bits: int = 24) -> None:
    """A veth pair named alike at both ends; an end is (namespace, IPv4 address). Raises OSError."""
    _ip(None, f"link add {interface} netns {first[0]} type veth peer name {interface} netns {second[0]}")
    for name, address in (first, second):
        _ip(name, f"addr add {address}/{prefix_bits} dev {interface}", f"link set {interface} up")


def set_up(name: str, interface: str, up: bool) -> None:
    """Takes one end of a wire down, which cuts it, or up again."""
    _ip(name, f"link set {interface} {'up' if up else 'down'}")


def lose(name: str, interface: str, address: str, lost: bool) -> None:
    """What is sent to that neighbour gets lost without a word, as in a network far away: it goes to a hardware address
    that nobody has."""
    if lost:
        _ip(name, f"neigh replace {address} lladdr {NOBODY} dev {interface} nud permanent")
    else:
        _ip(name, f"neigh del {address} dev {interface}")


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
        _ip(None, f"netns del {name}")


def existing(prefix: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))
    return []


def _ip(inside: str | None, *commands: str) -> None:
    """By ip(8): a network of fifty nodes is made of three hundred of these, and it is five times as fast as opening a
    netlink socket in each namespace from Python would be."""
    where = [] if inside is None else ["-n", inside]
    done = subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(commands), text=True, capture_output=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(where)}: {'; '.join(commands)}: {done.stderr.strip()}")
