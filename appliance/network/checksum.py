"""The Internet checksum (RFC 1071): the ones' complement of the ones' complement sum of 16-bit words."""

from __future__ import annotations


def internet_checksum(data: bytes) -> int:
    """The checksum of `data`, an odd last byte padded with zero, as C's qbb_checksum computes it."""
    # 2^16 = 1 modulo 2^16 - 1, so the end-around-carry sum of the words is the whole number modulo 65535;
    # of the two zeros of ones' complement the sum is 0xffff unless every word is 0.
    number = int.from_bytes(data, "big")
    if len(data) % 2:
        number <<= 8
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return 0xFFFF - total


def checksum_holds(data: bytes) -> bool:
    """Whether `data`, its checksum field included, is as it was sent."""
    return internet_checksum(data) == 0
