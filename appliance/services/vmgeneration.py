"""Was this virtual machine restored from a snapshot, or cloned, while it ran? The kernel says so by a uevent.

Memory that comes back holds words of key that were spent after the snapshot was taken; going on would spend them again.
So the data plane ends at once, and starts afresh like after a crash: open chunks are void. Likewise the keys service,
whose stock may have been given out since, and whose random numbers drawn. Each listens for itself: who heard of it from
another unit would go on when that one does not run just then. Between the restoring and the uevent lie some
milliseconds that nobody can take away: a node's memory belongs in no snapshot.

The driver is drivers/virt/vmgenid.c of Linux (the uevent came with 6.10), the device the hypervisor's VM generation id.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from appliance.services.runtime import Loop

NETLINK_KOBJECT_UEVENT = 15
KERNEL_GROUP = 1
MARK = b"NEW_VMGENID=1"
LONGEST_UEVENT_BYTES = 8192
ROOM_BYTES = 1 << 20  # a storm of other uevents must not push ours out


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

    def _arrived(self, events: int) -> None:
        while True:
            try:
                uevent = self._socket.recv(LONGEST_UEVENT_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._restored("so many kernel events were lost that it is not known whether the machine was restored")
                return
            if MARK in uevent.split(b"\0"):
                self._restored("this virtual machine was restored from a snapshot, or is a copy of another")
                return

    def close(self) -> None:
        self._loop.forget(self._socket.fileno())
        self._socket.close()
