"""The key oracle: names every word of key and records what it covered, at both ends.

It stands outside the product. Device blocks are random, so a word (8 bytes) of key is known by its value alone; the
probe in the C core tells which words an operation read. A second, different use of a word fails the run, however
offsets moved. A word that is no device key at all (a wiped buffer, say) fails it too.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from appliance.q3p.records import BlockName

Word = tuple[BlockName, int]
MOST_WORDS = 1 << 17  # of a block: their numbers do not meet


class KeyMisuse(AssertionError):
    """A rule about key was broken."""


@dataclass
class KeyOracle:
    """``words``: value of a word to its number; ``covered``: value to what it covers and where in it."""

    words: dict[int, int] = field(default_factory=dict)
    covered: dict[int, tuple[str, object, int]] = field(default_factory=dict)
    blocks: list[tuple[int, BlockName]] = field(default_factory=list)  # number of the first word, block
    under_way: Counter[int] = field(default_factory=Counter)  # by block: words of reliable packets not opened yet
    touched: set[int] = field(default_factory=set)
    uses: int = 0
    first_use: Callable[[BlockName], None] = lambda name: None

    def block_made(self, name: BlockName, data: bytes) -> None:
        """A device made this block."""
        first = MOST_WORDS * len(self.blocks)
        self.blocks.append((first, name))
        values = struct.unpack(f">{len(data) // 8}Q", data)
        self.words.update(zip(values, range(first, first + len(values)), strict=True))

    def name(self, word: int) -> Word:
        """Which block's which word."""
        block = self.blocks[self.words[word] // MOST_WORDS]
        return block[1], self.words[word] - block[0]

    def used(self, who: str, use: str, doing: str, key: bytes, covers: object, reliable: bool = False) -> None:
        """``who`` used ``key`` (whole words) as ``use`` of ``covers``. Doing "open": on a verified packet of the peer.
        ``reliable``: the packet is to be sent until it arrives."""
        words = struct.unpack(f">{len(key) // 8}Q", key)
        self.uses += len(words)
        for place, word in enumerate(words):
            number = self.words.get(word)
            if number is None:
                raise KeyMisuse(f"{who} used {use} {doing} from memory that holds no device key: {word:016x}")
            known = self.covered.get(word)
            block = number // MOST_WORDS
            if doing == "open":
                self.under_way[block] -= reliable
                if self.under_way[block] < 0:
                    raise KeyMisuse(f"{who} opened a packet of block {self.blocks[block][1]} a second time")
                if known is None:
                    raise KeyMisuse(f"{who} opened a packet with word {self.name(word)}, which sealed nothing")
            elif known is None:
                self.covered[word] = use, covers, place
                self.under_way[block] += reliable
                if block not in self.touched:
                    self.touched.add(block)
                    self.first_use(self.blocks[block][1])
            if known is not None and known != (use, covers, place):
                first, second = show(known), show((use, covers, place))
                raise KeyMisuse(f"word {self.name(word)} covers two things: {first} and, by {who}, {second}")

    def words_under_way(self, names: Collection[BlockName]) -> int:
        """Words of these blocks under reliable packets that nobody opened."""
        return sum(count for block, count in self.under_way.items() if self.blocks[block][1] in names)


def show(thing: object) -> str:
    text = repr(thing)
    return text if len(text) < 120 else text[:117] + "..."
