"""Kernel uevents. What root of a network namespace sends to the kernel comes back to all who listen there."""

from __future__ import annotations

RESTORED = b"\0".join(
    (b"change@/devices/platform/vmgenid", b"ACTION=change", b"DEVPATH=/devices/platform/vmgenid", b"NEW_VMGENID=1", b"")
)
NETLINK_KOBJECT_UEVENT = 15


def sender(uevent: bytes = RESTORED) -> str:
    """A Python program that sends it in the namespace where it runs."""
    return f"""
import socket, struct
uevent = {uevent!r}
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, {NETLINK_KOBJECT_UEVENT}) as kernel:
    kernel.sendto(struct.pack("=IHHII", 16 + len(uevent), 16, 1, 1, 0) + uevent, (0, 0))
"""


SOURCE = "/sys/class/mem/null/uevent"  # who writes to it has the kernel tell of the device
RECEIVER = f"""
import socket
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, {NETLINK_KOBJECT_UEVENT}) as kernel:
    kernel.bind((0, 1))
    kernel.settimeout(60)
    with open({SOURCE!r}, "w") as source:
        source.write("change")
    while b"/mem/null" not in kernel.recv(8192):
        pass
"""
