"""The two rings between data plane and keys service (csrc/core/shmring.h), seen from the keys service.

Ring 0 brings packets from the data plane, ring 1 takes ours. Keys go between ring and shelf without passing here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Self

from appliance.native import ffi, lib
from appliance.native.keymem import KeyMemory
from appliance.native.shelf import Shelf, handle_array, reason


class RingError(Exception):
    """A packet did not pass. `reason`: a short fixed name, fit for a counter."""

    def __init__(self, error: int) -> None:
        self.reason = reason(error)
        super().__init__(self.reason)


class RingPair:
    """The keys service's end."""

    def __init__(self, memory: KeyMemory) -> None:
        self._memory = memory
        self._incoming = memory.at(0)
        self._outgoing = memory.at(lib.qbb_ring_bytes())
        self._clear = ffi.new("uint8_t[]", lib.QBB_RING_SLOT_BYTES)
        self._handles = ffi.new("uint64_t[]", lib.QBB_SEGMENT_KEYS_MAX)
        self._count = ffi.new("size_t *")

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Maps what the data plane shared; raises OSError when it is no such memory. The caller closes fd."""
        return cls(KeyMemory.attach(fd, length_bytes()))

    def put(self, shelf: Shelf, clear: bytes, handles: Sequence[int] = ()) -> None:
        """Raises RingError: ring-full (try later), stale, layout."""
        result = lib.qbb_shelf_to_ring(
            shelf.pointer, self._outgoing, clear, len(clear), handle_array(handles), len(handles)
        )
        if result < 0:
            raise RingError(-result)

    def take(self, shelf: Shelf) -> tuple[bytes, list[int]] | None:
        """The next packet's clear part and the handles of its keys; None when there is none. Raises RingError for
        a packet that could not be taken and is gone: shelf-full, layout, length, ring-broken."""
        length = lib.qbb_shelf_from_ring(shelf.pointer, self._incoming, self._clear, self._handles, self._count)
        if length == 0:
            return None
        if length < 0:
            raise RingError(-length)
        count = self._count[0]
        handles = ffi.unpack(self._handles, count) if count else []
        return bytes(ffi.buffer(self._clear, length)), handles

    def close(self) -> None:
        """Wipes and unmaps: the other end finds two empty rings."""
        self._memory.close()

    # A service that ends does not close: its last packets, resets of its connections, are still to be taken by the data
    # plane, which wipes each slot as it takes it. The end of the process unmaps.


def length_bytes() -> int:
    """Bytes of the shared mapping: both rings."""
    return 2 * int(lib.qbb_ring_bytes())


def wake(eventfd: int) -> None:
    """Tells the other side; a full counter means that it has been told."""
    try:
        os.eventfd_write(eventfd, 1)
    except BlockingIOError:
        pass
