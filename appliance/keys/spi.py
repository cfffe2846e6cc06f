"""SPIs of the SAs that end here. The receiving end allocates (RFC 4301, 4.1): nobody else can know what is free.

From the node's reserved range alone, so that they never meet those that the site's own IKE daemon draws. They are
handed out in turn, each once before any comes again, so that a late packet of an old SA finds no new one.
"""

from __future__ import annotations

import errno

from appliance.keys.errors import Refused

RESERVED_BY_IANA = 255  # RFC 4303: SPIs 1..255 are IANA's, 0 is nobody's


class SpiAllocator:
    """Unique SPIs of first..last. `start` (any number, from the node's generator) is where the turn begins."""

    def __init__(self, first: int, last: int, start: int = 0) -> None:
        if not RESERVED_BY_IANA < first <= last < 2**32:
            raise ValueError(f"SPIs are {RESERVED_BY_IANA + 1}..4294967295, not {first}..{last}")
        self.first, self.last = first, last
        self._used: set[int] = set()
        self._next = first + start % (last - first + 1)

    def allocate(self, low: int = 0, high: int = 2**32 - 1) -> int:
        """A free SPI that lies in low..high too. Raises Refused (EEXIST: none is free; EINVAL: none lies there)."""
        low, high = max(low, self.first), min(high, self.last)
        if low > high:
            raise Refused(errno.EINVAL, f"this node's SPIs are {self.first:#x}..{self.last:#x}")
        spi = self._next if low <= self._next <= high else low
        for _ in range(min(len(self._used), high - low) + 1):
            if spi not in self._used:
                self._used.add(spi)
                self._next = spi + 1 if spi < self.last else self.first
                return spi
            spi = spi + 1 if spi < high else low
        raise Refused(errno.EEXIST, "every SPI of the range is in use")

    def free(self, spi: int) -> None:
        self._used.discard(spi)

    @property
    def used(self) -> int:
        return len(self._used)
