"""A block of raw key in key memory, from the driver until the data plane has accepted it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from appliance.devices.fibrewire import wipe
from appliance.native import ffi, lib
from appliance.native.keymem import KeyMemory


@dataclass
class Block:
    """`memory.fd` is the memory file that goes to the data plane by SCM_RIGHTS. time_ns: nanoseconds since
    1970.
    """

    id: int
    length_bytes: int
    qber: float
    time_ns: int
    memory: KeyMemory
    unanswered: int = 0  # how often it was sent and not answered: such a message may still wait to be read

    @property
    def fd(self) -> int:
        assert self.memory.fd is not None
        return self.memory.fd

    def close(self) -> None:
        """Wipes and gives back. One that the data plane may still read is only given back: wiped, it would be taken as
        zeros, and as equal ones if the other end's device did the same."""
        fd, self.memory.fd = self.memory.fd, None
        if self.unanswered:
            self.memory.forget()
        else:
            self.memory.close()
        if fd is not None:
            os.close(fd)


def expand(
    id: int,
    length_bytes: int,
    qber: float,
    time_ns: int,
    seed: bytearray,
    *,
    pattern: bytes = b"",
    flip: int | None = None,
) -> Block:
    """The block that the fibre's seed stands for. The seed is wiped. `pattern` and `flip` (a bit's number)
    are for tests.

    Raises OSError without locked memory, ValueError for a seed of the wrong length.
    """
    if len(seed) != lib.QBB_SEED_BYTES:
        raise ValueError(f"a seed of {len(seed)} bytes; {lib.QBB_SEED_BYTES} are right")
    memory = KeyMemory.share(length_bytes)
    out = memory.at(0)
    if pattern:
        lib.qbb_expand_pattern(out, length_bytes, pattern, len(pattern))
    elif lib.qbb_expand(out, length_bytes, ffi.from_buffer("uint8_t[]", seed)) != 0:
        memory.close()
        raise OSError("libcrypto refused SHAKE256")
    if flip is not None:
        lib.qbb_expand_flip(out, length_bytes, flip)
    wipe(seed)
    return Block(id, length_bytes, qber, time_ns, memory)
