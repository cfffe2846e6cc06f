"""The data plane's C thread (csrc/io/dataplane.h), for the control program.

Calls raise OSError with the place. What the thread punts comes as :class:`Punt`: its clear part is Python bytes, what
was padded stays in key memory and is wiped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from appliance.native import check, ffi, lib
from appliance.native.forward import NetworkDrop, OverloadPolicy, Way
from appliance.native.keymem import KeyMemory
from appliance.native.link import Direction, LinkParams, LinkStats, Verdict, params_fields, stats_from

FINGERPRINT_BYTES = 16
FINGERPRINTS_MOST = 40  # in one offer
OFFERS_MOST = 160  # kept at a time


class ChannelKind(IntEnum):
    NONE = 0
    UDP = 1
    TCP = 2


class PuntKind(IntEnum):
    HELLO = 0
    CONTROL = 1
    NETWORK = 2
    DEVICE = 3
    ALARM = 4
    CHANNEL_LOST = 5


class LinkLoad(NamedTuple):
    """How loaded a link is: L of equation 1 against L_cr; 1 means that key is used up as fast as it comes."""

    load: float
    critical: float
    supply_words_s: float


class FingerprintShelf:
    """Key memory for the fingerprints of offers that wait for blocks."""

    def __init__(self) -> None:
        self._slot_bytes = FINGERPRINT_BYTES * FINGERPRINTS_MOST
        self._memory = KeyMemory.map(self._slot_bytes * OFFERS_MOST)
        self._free = list(range(OFFERS_MOST))

    def put(self, source: Any, length_bytes: int, directory_fd: int) -> Fingerprints | None:
        """A copy in key memory; None when there is no place or nothing to keep."""
        if not self._free or not 0 < length_bytes <= self._slot_bytes:
            return None
        slot = self._free.pop()
        place = self._memory.at(slot * self._slot_bytes)
        ffi.memmove(place, source, length_bytes)
        return Fingerprints(self, slot, place, length_bytes, directory_fd)

    def release(self, slot: int) -> None:
        lib.qbb_wipe(self._memory.at(slot * self._slot_bytes), self._slot_bytes)
        self._free.append(slot)


class Fingerprints:
    """An offer's fingerprints in key memory, until released."""

    def __init__(self, shelf: FingerprintShelf, slot: int, place: Any, length_bytes: int, directory_fd: int) -> None:
        self._shelf, self._slot, self._place = shelf, slot, place
        self._length_bytes, self._directory_fd = length_bytes, directory_fd

    def compare(self, index: int, hash_key: bytes, name: str, length_bytes: int) -> bool:
        """Does the block file have fingerprint ``index`` under ``hash_key``? Raises OSError."""
        at = index * FINGERPRINT_BYTES
        if self._slot < 0 or at + FINGERPRINT_BYTES > self._length_bytes:
            return False
        found = lib.qbb_fingerprint_matches(self._place + at, hash_key, self._directory_fd, name.encode(), length_bytes)
        return bool(check(found, f"block {name}"))

    def release(self) -> None:
        if self._slot >= 0:
            self._shelf.release(self._slot)
            self._slot = -1


class Punt(NamedTuple):
    """What the thread left to control. ``clear``: the part that travelled unpadded; ``secret``: how many bytes follow,
    at ``pointer``, valid until the next punt is taken."""

    kind: PuntKind
    link: int
    channel: int
    command: int
    reason: int
    clear: bytes
    secret_bytes: int
    pointer: Any


class DataPlane:
    """Owns the thread. Link indexes are those that add_link returned."""

    def __init__(self, node_address: IPv4Address) -> None:
        self._dp = lib.qbb_dataplane_new(int(node_address))
        if self._dp == ffi.NULL:
            raise OSError(ffi.errno, f"the data plane cannot start: {os.strerror(ffi.errno)}")
        self._punt_memory = KeyMemory.map(ffi.sizeof("qbb_punt"))
        self._punt = ffi.cast("qbb_punt *", self._punt_memory.pointer)
        self._stats = ffi.new("qbb_link_stats *")
        self.punt_fd: int = lib.qbb_dataplane_punt_fd(self._dp)

    def start(self) -> None:
        check(lib.qbb_dataplane_start(self._dp), "data plane thread")

    def stop(self) -> None:
        """Ends the thread and wipes all key; nothing may be called afterwards."""
        lib.qbb_dataplane_stop(self._dp)
        lib.qbb_dataplane_free(self._dp)
        self._dp = ffi.NULL
        self._punt_memory.close()

    @property
    def hash_name(self) -> str:
        name: bytes = ffi.string(lib.qbb_hash_name(lib.qbb_hash_selected()))
        return name.decode()

    def next_punt(self) -> Punt | None:
        lib.qbb_wipe(self._punt, ffi.sizeof("qbb_punt"))
        if not lib.qbb_dataplane_next_punt(self._dp, self._punt):
            return None
        punt = self._punt
        return Punt(
            PuntKind(punt.kind),
            punt.link,
            punt.channel,
            punt.command,
            punt.reason,
            bytes(ffi.buffer(punt.bytes, punt.clear)),
            punt.length - punt.clear,
            punt.bytes + punt.clear,
        )

    # --- links -------------------------------------------------------------------------------------------------------

    def add_link(self, params: LinkParams) -> int:
        wanted = ffi.new("qbb_link_params *", params_fields(params))
        return check(lib.qbb_dataplane_add_link(self._dp, wanted, params.buffer_words), "link")

    def set_channel(self, link: int, kind: ChannelKind, fd: int) -> None:
        """The data plane owns the descriptor from now on; it is closed here when it is refused. Raises OSError."""
        result = lib.qbb_dataplane_set_channel(self._dp, link, kind, fd)
        if result < 0 and fd >= 0:
            os.close(fd)
        check(result, "channel")

    def send_hello(self, link: int, packet: bytes) -> None:
        """Lost when there is no channel, as any packet may be."""
        lib.qbb_dataplane_send_hello(self._dp, link, packet, len(packet))

    def begin(self, link: int, epoch: int, out_half: Any, in_half: Any) -> None:
        """Pointers into key memory, 128 bytes each."""
        check(lib.qbb_dataplane_begin(self._dp, link, epoch, out_half, in_half), "epoch")

    def end(self, link: int) -> None:
        lib.qbb_dataplane_end(self._dp, link)

    def load(self, link: int, direction: Direction, directory_fd: int, name: str, length_bytes: int) -> bool:
        """False when the buffer has no room yet. Raises OSError."""
        result = lib.qbb_dataplane_load(self._dp, link, direction, directory_fd, name.encode(), length_bytes)
        if result == -errno.ENOBUFS:
            return False
        check(result, f"block {name}")
        return True

    def close_below(self, link: int, direction: Direction, word: int) -> None:
        lib.qbb_dataplane_close_below(self._dp, link, direction, word)

    def allow(self, link: int, priority: int) -> None:
        lib.qbb_dataplane_allow(self._dp, link, priority)

    def set_usable(self, link: int, usable: bool) -> None:
        lib.qbb_dataplane_set_usable(self._dp, link, usable)

    def submit(
        self, link: int, channel: int, command: int, priority: int, payload: bytes, reliable: bool = True
    ) -> bool:
        """A packet without padding; False when the link has no room or no epoch.

        Raises ValueError for a packet that no link would take."""
        size = len(payload)
        result = lib.qbb_dataplane_submit(self._dp, link, channel, command, priority, reliable, payload, size, size)
        if result not in (0, -Verdict.DROP_QUEUE_FULL, -Verdict.DROP_NO_EPOCH):
            raise ValueError(f"a packet of {size} bytes for channel {channel} was refused: {result}")
        return not result

    def submit_offer(
        self,
        link: int,
        priority: int,
        clear: bytes,
        hash_key: bytes,
        directory_fd: int,
        blocks: Sequence[tuple[str, int]],
    ) -> bool:
        """An OFFER with the fingerprints of these block files (name, length); False when the link did not take it.

        Raises OSError when a block cannot be read."""
        names = [ffi.new("char[]", name.encode()) for name, _ in blocks]
        lengths = [length for _, length in blocks]
        result = lib.qbb_dataplane_submit_offer(
            self._dp, link, priority, clear, len(clear), hash_key, directory_fd, names, lengths, len(blocks)
        )
        if result in (-errno.ENOBUFS, -errno.ENOTCONN):
            return False
        check(result, "offer")
        return True

    def stats(self, link: int) -> LinkStats:
        check(lib.qbb_dataplane_stats(self._dp, link, self._stats), "link")
        return stats_from(self._stats)

    def progress(self, link: int) -> tuple[int, int, int, int, int, int, int]:
        """Words: out loaded, out spent, out queued for, out settled, in loaded; packets in flight, last verified (ns).
        Often asked."""
        stats = self._stats
        check(lib.qbb_dataplane_stats(self._dp, link, stats), "link")
        return (
            stats.out_loaded,
            stats.out_loaded - stats.out_words,
            stats.queued_control_words,
            stats.out_settled,
            stats.in_loaded,
            stats.in_flight,
            stats.last_verified_ns,
        )

    # --- the node ----------------------------------------------------------------------------------------------------

    def set_table(self, ways: Sequence[Way], hold_s: float = 0.0) -> None:
        """The whole routing table, sorted by prefix, then bits, preferred ways first; swapped at once. For
        ``hold_s`` only best ways are taken. Raises OSError for a table out of order."""
        rows = ffi.new("qbb_way[]", [way.fields() for way in ways])
        check(lib.qbb_dataplane_set_table(self._dp, rows, len(ways), int(hold_s * 1e9)), "routing table")

    def set_overload(self, policy: OverloadPolicy, default_link: int = -1) -> None:
        check(lib.qbb_dataplane_set_overload(self._dp, policy, default_link), "overload policy")

    def set_link_policy(self, link: int, window: float, critical: float, queue_mark_packets: int) -> None:
        """w and L_cr; the load starts from zero. Raises OSError when they are impossible."""
        result = lib.qbb_dataplane_set_link_policy(self._dp, link, window, critical, queue_mark_packets)
        check(result, "policy of a link")

    def set_supply(self, link: int, words_s: float) -> None:
        """What the link can carry, in key words a second."""
        check(lib.qbb_dataplane_set_supply(self._dp, link, words_s), "supply of a link")

    def link_load(self, link: int) -> LinkLoad:
        load = ffi.new("qbb_load *")
        check(lib.qbb_dataplane_link_load(self._dp, link, load), "link")
        return LinkLoad(load.load, load.critical, load.supply_words_s)

    def set_report_rate(self, per_s: float, at_once: int) -> None:
        """How many dropped packets are punted for ICMP errors."""
        check(lib.qbb_dataplane_set_report_rate(self._dp, int(1e9 / per_s), at_once), "rate of reports")

    def originate(self, packet: bytes) -> bool:
        """A whole QKDNL packet of this node without key in it (ICMP); False when it was dropped, and counted."""
        return bool(lib.qbb_dataplane_originate(self._dp, packet, len(packet)))

    def set_ring(self, rings: Any, to_keys_fd: int, from_keys_fd: int) -> None:
        check(lib.qbb_dataplane_set_ring(self._dp, rings, to_keys_fd, from_keys_fd), "ring")

    def network_drops(self) -> dict[str, int]:
        counts = ffi.new("uint64_t[32]")
        lib.qbb_dataplane_network_drops(self._dp, counts)
        return {drop.name.lower(): counts[drop] for drop in NetworkDrop if counts[drop]}
