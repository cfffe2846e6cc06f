"""The network namespace of the routing unit and FRR: loopback, the node's TUNs, and nothing else.

FRR 8.4 opens ospfd's API on every address, so no other interface may be there: whoever reaches it makes routes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute, netns

OWN = ("lo", "qbb")  # how names of interfaces begin that may be there
OWN_NAMESPACE = Path("/proc/self/ns/net")
PATIENCE_S = 10.0
LOOK_AGAIN_S = 0.01


def enter(name: str | None) -> None:
    """Enters /run/netns/NAME, made when it is not there. Before any socket or TUN is opened. Raises OSError."""
    if name is None:
        return
    with _alone():
        there = _opened(Path(netns.NETNS_RUN_DIR) / name)
    try:
        netns.setns(there)
    finally:
        os.close(there)
    with IPRoute() as netlink:
        netlink.link("set", index=1, state="up")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """The two units start together, and making a namespace takes several steps."""
    directory = Path(netns.NETNS_RUN_DIR)
    directory.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _opened(path: Path) -> int:
    """A descriptor of the namespace. What others are just making (ip-netns(8) takes no lock) is waited for: first there
    is a file, then the namespace is mounted on it."""
    end_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                netns.create(path.name)
            continue
        if os.fstat(found).st_dev == OWN_NAMESPACE.stat().st_dev:  # all namespaces are on one file system
            return found
        os.close(found)
        if time.monotonic() > end_s:
            # Not removed here: in the mount namespace of another program it may well be one.
            raise OSError(
                errno.EINVAL, f"is no network namespace; if nobody uses it: ip netns delete {path.name}", path
            )
        time.sleep(LOOK_AGAIN_S)


def strangers() -> list[str]:
    """Interfaces of this namespace that others could come in by."""
    with IPRoute() as netlink:
        names = [link.get_attr("IFLA_IFNAME") for link in netlink.get_links() if link["state"] == "up"]
    return sorted(name for name in names if not name.startswith(OWN))


def identity() -> int:
    """Two processes in one namespace have the same."""
    return OWN_NAMESPACE.stat().st_ino
