"""The pure forwarding core (csrc/core table.h, forward.h): names for the data plane's Python side, and the core itself
for programs that play the whole network in one process (the simulator)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from types import ModuleType
from typing import Any, NamedTuple

from appliance.native import _native

LOCAL = -1  # QBB_WAY_LOCAL
_BEST, _LOOP_FREE = 1, 2


class NetworkDrop(IntEnum):
    """enum qbb_network_drop."""

    SHORT = 0
    VERSION = 1
    CHECKSUM = 2
    SOURCE = 3
    TTL = 4
    NO_ROUTE = 5
    NO_HOST = 6
    BACK = 7
    LINK_DOWN = 8
    QUEUE = 9
    OVERLOAD = 10
    RING_FULL = 11
    PUNT_FULL = 12
    PUNT_RATE = 13
    RING_MALFORMED = 14
    RANDOM = 15


class OverloadPolicy(IntEnum):
    DROP = 0
    DEFAULT_LINK = 1


class Fate(IntEnum):
    LOCAL = 0
    SEND = 1
    DROP = 2


class Way(NamedTuple):
    """qbb_way. link LOCAL: this node itself."""

    prefix: int
    bits: int
    link: int
    cost: int
    best: bool = True
    loop_free: bool = True

    def fields(self) -> dict[str, int]:
        flags = (_BEST if self.best else 0) | (_LOOP_FREE if self.loop_free else 0)
        return {"prefix": self.prefix, "bits": self.bits, "link": self.link, "cost": self.cost, "flags": flags}


class Decision(NamedTuple):
    fate: Fate
    link: int
    reason: NetworkDrop


class Forwarding:
    """qbb_forwarding and its table. The masks have a bit per link; set them before each decision."""

    def __init__(self, address: int, native: ModuleType | None = None) -> None:
        module: Any = native or _native
        self._ffi, self._lib = module.ffi, module.lib
        self.state: Any = self._ffi.new("qbb_forwarding *")
        self.state.address = address
        self.state.alternates = 1
        self.state.default_link = -1
        self._memory: Any = None

    def set_table(self, ways: Sequence[Way], links: int) -> None:
        """Another table instead of the one before. Raises ValueError when the ways are not in order."""
        bytes_wanted = self._lib.qbb_table_bytes(len(ways))
        memory = self._ffi.new("uint64_t[]", bytes_wanted // 8 + 1)
        rows = self._ffi.new("qbb_way[]", [way.fields() for way in ways])
        table = self._lib.qbb_table_build(memory, rows, len(ways), links)
        if table == self._ffi.NULL:
            raise ValueError("a routing table out of order")
        self.state.table, self._memory = table, memory

    def decide(self, came_by: int, packet: Any, length: int) -> Decision:
        """``packet``: a C pointer. came_by LOCAL: of this node."""
        found = self._lib.qbb_forward(self.state, came_by, packet, length)
        return Decision(Fate(found.fate), found.link, NetworkDrop(found.reason))
