"""POLYVAL (RFC 8452, section 3) and the A-tag in plain integers, written from the RFC and from csrc/core/tag.h alone.

Run as a script it prints csrc/core/known_answers.inc, the vectors of the self-test:

    python tests/unit/reference_hash.py > csrc/core/known_answers.inc
"""

from __future__ import annotations

import struct

POLYNOMIAL = (1 << 128) | (1 << 127) | (1 << 126) | (1 << 121) | 1


def multiply(a: int, b: int) -> int:
    """a * b in GF(2^128); bit i of the integer is the coefficient of x^i."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a >> 128:
            a ^= POLYNOMIAL
    return product


def inverse_of_x128() -> int:
    """x^-128: the element that gives 1 when multiplied by x 128 times."""
    value = 1
    for _ in range(128):
        value = value >> 1 if not value & 1 else (value ^ POLYNOMIAL) >> 1
    return value


X_MINUS_128 = inverse_of_x128()


def dot(a: int, b: int) -> int:
    """The RFC's dot(a, b) = a * b * x^-128."""
    return multiply(multiply(a, b), X_MINUS_128)


def polyval(h: bytes, data: bytes, start: bytes = bytes(16)) -> bytes:
    """POLYVAL of data, zero-padded to whole 16-byte blocks, continued from ``start``."""
    key = int.from_bytes(h, "little")
    total = int.from_bytes(start, "little")
    for at in range(0, len(data), 16):
        block = int.from_bytes(data[at : at + 16].ljust(16, b"\0"), "little")
        total = dot(total ^ block, key)
    return total.to_bytes(16, "little")


def xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def fixed_block(link_id: int, epoch: int, direction: int, e_offset: int, a_offset: int, header: bytes) -> bytes:
    """The 64 bytes that say which packet this is (csrc/core/tag.h)."""
    block = struct.pack(">QQB7xQQ20s4x", link_id, epoch, direction, e_offset, a_offset, header)
    assert len(block) == 64
    return block


def tag(h: bytes, fixed: bytes, payload: bytes, mask: bytes) -> bytes:
    """The A-tag: 16 bytes."""
    return xor(polyval(h, fixed + payload), mask)


def pad(text: bytes, clear: int, *pads: bytes) -> bytes:
    """text with the part behind ``clear`` XOR each pad."""
    out = text[clear:]
    for key in pads:
        out = xor(out, key[: len(out)])
    return text[:clear] + out


def pattern(seed: int, length: int) -> bytes:
    """The self-test's inputs: the same formula as pattern() of csrc/core/selftest.c."""
    return bytes((i * 151 + (i >> 8) * 17 + seed * 29 + 1) & 0xFF for i in range(length))


SHAPES = [  # payload length, clear, relayed (two pads)
    (0, 0, 0),
    (8, 8, 0),
    (15, 3, 1),
    (16, 0, 0),
    (49, 8, 1),
    (64, 64, 0),
    (65, 1, 0),
    (104, 72, 1),
    (128, 63, 1),
    (432, 8, 0),
    (447, 400, 1),
    (448, 8, 1),
    (449, 65, 0),
    (512, 0, 1),
    (1400, 48, 0),
    (1436, 129, 1),
]


def known_answers() -> str:
    lines = [
        "/* Made by tests/unit/reference_hash.py, an independent implementation in Python. */",
        "static const struct {",
        "    uint16_t length, clear;",
        "    uint8_t relayed, tag[16];",
        "} known_tags[] = {",
    ]
    h, header, mask = pattern(1, 16), pattern(2, 20), pattern(3, 16)
    fixed = fixed_block(0x0101010101010102, 0x0203040506070809, 1, 0x1122334455667788, 0x1122334455667799, header)
    for length, clear, relayed in SHAPES:
        pads = [pattern(5, length - clear)] + ([pattern(6, length - clear)] if relayed else [])
        payload = pad(pattern(4, length), clear, *pads)
        digits = ", ".join(f"0x{byte:02x}" for byte in tag(h, fixed, payload, mask))
        lines.append(f"    {{{length}, {clear}, {relayed}, {{{digits}}}}},")
    lines.append("};")
    return "\n".join(lines)


if __name__ == "__main__":
    print(known_answers())
