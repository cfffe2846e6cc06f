"""HMAC-SHA-256 under a key in key memory."""

from __future__ import annotations

from typing import Any

from appliance.native import ffi, lib


def hmac_sha256(key: Any, key_length_bytes: int, data: bytes) -> bytes:
    """32 bytes. ``key`` points into key memory. Raises ValueError when libcrypto refuses (an empty key)."""
    out = ffi.new("uint8_t[32]")
    if lib.qbb_hmac_sha256(out, key, key_length_bytes, ffi.from_buffer(data), len(data)) != 0:
        raise ValueError(f"HMAC-SHA-256 refused a key of {key_length_bytes} bytes")
    return bytes(out)


def equal(a: bytes, b: bytes) -> bool:
    """Constant time for equal lengths."""
    return len(a) == len(b) and bool(lib.qbb_equal(ffi.from_buffer(a), ffi.from_buffer(b), len(a)))
