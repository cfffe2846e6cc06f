"""Was this virtual machine restored from a snapshot, or cloned, while it ran? The kernel says so in its log.

Memory that comes back holds words of key that were spent after the snapshot was taken; going on would spend them again.
So the data plane ends at once, and starts afresh like after a crash: open chunks are void. Likewise the keys service,
whose stock may have been given out since, and whose random numbers drawn. Each listens for itself: who heard of it from
another unit would go on when that one does not run just then. Between the restoring and what the kernel says of it lie
some milliseconds that nobody can take away: a node's memory belongs in no snapshot.

The device is the hypervisor's VM generation id, the driver drivers/virt/vmgenid.c of Linux. It gives the new id to the
kernel's generator of random numbers, which says so in the log (5.18 and later); some kernels send a uevent as well, but
that of Debian 13 does not. The log is opened by systemd, OpenFile= of the unit, since a unit itself may not. Where
there is such a device and no log, as in a container, that is told: nothing may tell of a restoring then.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

from appliance.services import journal
from appliance.services.passed import descriptors
from appliance.services.runtime import Loop

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
MARK = b"NEW_VMGENID=1"
LONGEST_UEVENT_BYTES = 8192
ROOM_BYTES = 1 << 20  # a storm of other uevents must not push ours out
LOG = "kmsg"  # name of the descriptor
LOGGED = b"crng reseeded due to virtual machine fork"
LONGEST_RECORD_BYTES = 8192
BUSES = Path("/sys/bus")
RESTORED = "this virtual machine was restored from a snapshot, or is a copy of another"
LOST = "so much of what the kernel says was lost that it is not known whether the machine was restored"


class GenerationWatch:
    """Calls `restored` with the reason. To be made before the first secret is in memory: then no restoring is missed.
    Raises OSError when the kernel's uevents cannot be had."""

    def __init__(self, loop: Loop, restored: Callable[[str], None]) -> None:
        self._loop, self._restored = loop, restored
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, NETLINK_KOBJECT_UEVENT)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM_BYTES)
        self._socket.bind((0, KERNEL_GROUP))
        loop.watch(self._socket.fileno(), self._arrived)
        self._log = _log()
        if self._log is not None:
            os.set_blocking(self._log, False)
            loop.watch(self._log, self._read_log)
        elif has_generation_id():
            journal.write("restoring-unheard", "no log of the kernel was passed by systemd")

    def _read_log(self, events: int) -> None:
        assert self._log is not None
        while True:
            try:
                record = os.read(self._log, LONGEST_RECORD_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.EPIPE:  # records were overwritten before they were read
                    raise
                self._restored(LOST)
                return
            if not record:
                return
            if LOGGED in record:
                self._restored(RESTORED)
                return

    def _arrived(self, events: int) -> None:
        while True:
            try:
                uevent = self._socket.recv(LONGEST_UEVENT_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._restored(LOST)
                return
            if MARK in uevent.split(b"\0"):
                self._restored(RESTORED)
                return

    def close(self) -> None:
        if self._log is not None:
            self._loop.forget(self._log)
        self._loop.forget(self._socket.fileno())
        self._socket.close()


def has_generation_id(buses: Path = BUSES) -> bool:
    """Does this machine's hypervisor tell of restorings? By the kernel's driver, which has a device then."""
    bound = (entry for driver in buses.glob("*/drivers/vmgenid") for entry in driver.iterdir())
    return any(entry.is_symlink() and entry.name != "module" for entry in bound)


def _log() -> int | None:
    log = next((fd for fd, name in descriptors().items() if name == LOG), None)
    if log is None:
        return None
    try:
        os.lseek(log, 0, os.SEEK_END)  # what was said before this process was there is no news
    except OSError:
        return None  # a container's: what is there is no kernel's log
    return log
