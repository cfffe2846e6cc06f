"""Session keys in locked memory (csrc/core/shelf.h), their generator (csrc/io/random.h), and their way out to a client.

A key is its handle here: slot number and generation in one int. A handle whose key is gone is refused everywhere.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from appliance.native import ffi, lib
from appliance.native.keymem import KeyMemory

KEY_MIN_BYTES: int = lib.QBB_KEY_MIN_BYTES
KEY_MAX_BYTES: int = lib.QBB_KEY_MAX_BYTES
SEGMENT_KEYS_MAX: int = lib.QBB_SEGMENT_KEYS_MAX

Places = tuple[int, int, int, int]  # first_at, first_bytes, second_at, second_bytes of qbb_pfkey_send

STALE: int = lib.QBB_SHELF_STALE
NOT_RECORDED = 1  # of Shelf.hand_over
RING_FULL: int = lib.QBB_SHELF_RING_FULL
_ERRORS = {
    lib.QBB_SHELF_LENGTH: "length",
    lib.QBB_SHELF_FULL: "shelf-full",
    lib.QBB_SHELF_STALE: "stale",
    lib.QBB_SHELF_LAYOUT: "layout",
    lib.QBB_SHELF_RING_FULL: "ring-full",
    lib.QBB_SHELF_RING_BROKEN: "ring-broken",
}


class StaleHandle(Exception):
    """The key that the handle named is gone."""


def reason(error: int) -> str:
    """A short fixed name for an error of the shelf, fit for a counter."""
    return _ERRORS.get(error, "unknown")


class KeySource:
    """Draws keys: getrandom, XOR a hardware source when `hardware` names one (its health is tested all along)."""

    def __init__(self, hardware: str | None = None, entropy_bits: int = 1) -> None:
        path = ffi.NULL if hardware is None else hardware.encode()
        pointer = lib.qbb_random_new(path, entropy_bits)
        if pointer == ffi.NULL:
            why = "fails its start-up health test" if ffi.errno == errno.EIO else os.strerror(ffi.errno)
            raise OSError(ffi.errno, f"key source {hardware}: {why}")
        self.pointer = ffi.gc(pointer, lib.qbb_random_free)
        self._hardware = hardware

    @property
    def name(self) -> str:
        """For the status: what keys are made of now."""
        if self._hardware is None:
            return "getrandom"
        health = lib.qbb_random_health(self.pointer)
        if health == lib.QBB_HEALTH_GOOD:
            return f"getrandom xor {self._hardware}"
        test = "repetition count" if health == lib.QBB_HEALTH_REPETITION else "adaptive proportion"
        return f"stopped: {self._hardware} failed the {test} test"


class Shelf:
    """`slots` keys of at most `slot_bytes` bytes each, in key memory."""

    def __init__(self, slots: int, source: KeySource, slot_bytes: int = KEY_MAX_BYTES) -> None:
        self.slots = slots
        self.slot_bytes = slot_bytes
        self.source = source
        self._memory = KeyMemory.map(lib.qbb_shelf_secret_bytes(slots, slot_bytes))
        self._memory.wipe()  # touches every page now: a first touch of secret memory takes long
        # Aligned to 64 bytes within a buffer that lives as long as the shelf.
        self._plain = ffi.new("uint8_t[]", lib.qbb_shelf_plain_bytes(slots) + 64)
        address = int(ffi.cast("uintptr_t", self._plain))
        plain = ffi.cast("void *", (address + 63) // 64 * 64)
        self.pointer = lib.qbb_shelf_init(self._memory.pointer, plain, slots, slot_bytes)
        if self.pointer == ffi.NULL:
            raise ValueError(f"a shelf needs slots of 16..1024 bytes in steps of 8, not {slots} of {slot_bytes}")
        self._drawn = ffi.new("uint64_t[]", slots)

    def draw(self, length_bytes: int, count: int) -> list[int]:
        """Up to `count` fresh keys. Raises OSError: EMSGSIZE, ENOSPC (shelf full), EIO (source failed), EAGAIN."""
        got = lib.qbb_random_draw(self.source.pointer, self.pointer, length_bytes, min(count, self.slots), self._drawn)
        if got < 0:
            raise OSError(-got, f"drawing a key of {length_bytes} bytes: {os.strerror(-got)}")
        return ffi.unpack(self._drawn, got) if got else []

    def length(self, handle: int) -> int:
        """Bytes of the key; raises StaleHandle."""
        length: int = lib.qbb_shelf_length(self.pointer, handle)
        if length < 0:
            raise StaleHandle(handle)
        return length

    def release(self, handle: int) -> None:
        """Wipes the key; raises StaleHandle."""
        if lib.qbb_shelf_release(self.pointer, handle) < 0:
            raise StaleHandle(handle)

    @property
    def free(self) -> int:
        return int(lib.qbb_shelf_free(self.pointer))

    def send(self, fileno: int, message: bytes, handle: int, places: Places) -> int:
        """Sends a PF_KEY message with the key put in where `places` says. 0 or an errno (EAGAIN: socket full)."""
        result: int = lib.qbb_pfkey_send(fileno, message, len(message), self.pointer, handle, *places)
        return -result

    def hand_over(self, audit_fd: int, record: bytes, fileno: int, message: bytes, handle: int, places: Places) -> int:
        """Writes the audit record, sends as send() does, wipes the key. 0; NOT_RECORDED: so not sent; -EAGAIN: the
        socket is full and the key kept for send(); another negative errno: not sent."""
        result: int = lib.qbb_pfkey_hand_over(
            audit_fd, record, len(record), fileno, message, len(message), self.pointer, handle, *places
        )
        return result

    def close(self) -> None:
        """Wipes everything."""
        if self._memory is not None:
            lib.qbb_shelf_clear(self.pointer)
            self._memory.close()


def handle_array(handles: Sequence[int]) -> object:
    return ffi.new("uint64_t[]", list(handles)) if handles else ffi.NULL
