"""Listens to the wires of all links from inside the nodes' namespaces, and shows every packet to the link's spans.

Each link has one listener, at the master's veth, which sees what passes in both directions. A packet that the kernel
could not keep for us (the machine was busy) is counted as unseen; records of the log that were in it are taken from the
master's log file.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from appliance.lab import namespaces
from appliance.q3p import checkpoint
from appliance.q3p.records import EMPTY_DIGEST, Direction, read_frames

from .spans import LinkSpans

ETH_P_ALL, SOL_PACKET, PACKET_STATISTICS, SO_RCVBUFFORCE = 3, 263, 6, 33
CLONE_NEWNET = 0x40000000
BUFFER_BYTES = 64 << 20  # of memory that the kernel takes only for packets that wait
UDP, IP_HEADER_BYTES, UDP_HEADER_BYTES = 17, 20, 8
MOST_AT_ONCE = 256
LOOK_FOR_GAPS_S = 5.0
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Tap:
    """Where to listen to a link. `master`: the IPv4 address of the master's end of the wire."""

    link: str
    namespace: str
    interface: str
    master: bytes
    log: Path


class Wire(threading.Thread):
    """Listens from its start on."""

    def __init__(self, taps: list[Tap]) -> None:
        super().__init__(daemon=True)
        self.spans = {tap.link: LinkSpans(tap.link) for tap in taps}
        self.failure = ""
        self._taps = taps
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._unseen: Counter[str] = Counter()

    def start(self) -> None:
        """Returns when all listeners are there. Raises OSError."""
        super().start()
        self._ready.wait()
        if self.failure:
            raise OSError(self.failure)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def figures(self) -> Counter[str]:
        total = Counter(unseen=sum(self._unseen.values()))
        for spans in self.spans.values():
            total.update(spans.figures)
        return total

    def violations(self) -> list[str]:
        return [told for spans in self.spans.values() for told in spans.violations]

    def least_ttl(self) -> int:
        return min(spans.least_ttl for spans in self.spans.values())

    def run(self) -> None:
        try:
            self._listen()
        except Exception as error:  # the thread's last word; the run asks for it
            self.failure = f"the listener ended: {error!r}"
        finally:
            self._ready.set()

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for tap in self._taps:
                selector.register(_open(tap), selectors.EVENT_READ, tap)
            for tap in self._taps:
                self.spans[tap.link].begin(*read_log(tap.log))
            self._ready.set()
            look_s = time.monotonic() + LOOK_FOR_GAPS_S
            while not self._stopping.is_set():
                for key, _ in selector.select(0.2):
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj, key.data)
                if time.monotonic() > look_s:
                    self._mend_gaps()
                    look_s = time.monotonic() + LOOK_FOR_GAPS_S
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                self._read(key.fileobj, key.data, most=1 << 20)
                key.fileobj.close()

    def _read(self, listener: socket.socket, tap: Tap, most: int = MOST_AT_ONCE) -> None:
        spans = self.spans[tap.link]
        for _ in range(most):
            try:
                datagram = listener.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                continue  # the interface went down: told once
            show(spans, datagram, tap.master)
        _, dropped = struct.unpack("II", listener.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        self._unseen[tap.link] += dropped

    def _mend_gaps(self) -> None:
        for tap in self._taps:
            if self.spans[tap.link].gap:
                self.spans[tap.link].begin(*read_log(tap.log))


def show(spans: LinkSpans, datagram: bytes, master: bytes) -> None:
    """An IPv4 datagram of the link's wire."""
    if datagram[9] == UDP and datagram[0] == 0x45:
        sender = Direction(datagram[12:16] != master)
        for packet in _packets(datagram[IP_HEADER_BYTES + UDP_HEADER_BYTES :]):
            spans.packet(sender, packet)


def _packets(payload: bytes) -> list[bytes]:
    """Several in a row where the kernel was given them at once (UDP segmentation)."""
    found = []
    while len(payload) >= 2:
        length = max(2, int.from_bytes(payload[:2], "big"))
        found.append(payload[:length])
        payload = payload[length:]
    return found


def read_log(path: Path) -> tuple[list[bytes], int]:
    """Records in a log file, and the number of the first."""
    data = path.read_bytes()
    head, end = checkpoint.decode(data)
    base, digest = (head.length, head.digest) if head else (0, EMPTY_DIGEST)
    return [record for record, _, _ in read_frames(data, end, base, digest)], base


def _open(tap: Tap) -> socket.socket:
    """A namespace belongs to a thread: ours enters the link's and comes back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(os.open(namespaces.path(tap.namespace), os.O_RDONLY))
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        listener.bind((tap.interface, ETH_P_ALL))
        return listener
    finally:
        _enter(home)


def _enter(fd: int) -> None:
    try:
        if _libc.setns(fd, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter a network namespace")
    finally:
        os.close(fd)
