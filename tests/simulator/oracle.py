"""The key oracle: names every word of key and records what it covered, at both ends.

It stands outside the product. Device blocks are random, so a word (8 bytes) of key is known by its value alone; the
probe in the C core tells which words an operation read. A second, different use of a word fails the run, however
offsets moved. A word that is no device key at all (a wiped buffer, say) fails it too.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from appliance.q3p.records import BlockName

Word = tuple[BlockName, int]
MOST_WORDS = 1 << 17  # of a block: their numbers do not meet


class KeyMisuse(AssertionError):
    """A rule about key was broken."""


@dataclass
class KeyOracle:
    """``words``: value of a word to its number; ``covered``: value to the thing that it covers."""

    words: dict[int, int] = field(default_factory=dict)
    covered: dict[int, object] = field(default_factory=dict)
    blocks: list[tuple[int, BlockName]] = field(default_factory=list)  # number of the first word, block
    uses: int = 0

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

    def used(self, who: str, what: str, key: bytes, covers: object, opening: bool = False) -> None:
        """``who`` used ``key`` (whole words) for ``covers``; opening: on a verified packet from the peer."""
        for word in struct.unpack(f">{len(key) // 8}Q", key):
            self.uses += 1
            if word not in self.words:
                raise KeyMisuse(f"{who} used {what} from memory that holds no device key: {word:016x}")
            known = self.covered.get(word)
            if known is None:
                if opening:
                    raise KeyMisuse(f"{who} opened a packet with word {self.name(word)}, which sealed nothing")
                self.covered[word] = covers
            elif known != covers:
                raise KeyMisuse(
                    f"word {self.name(word)} covers two things: {show(known)} and, by {who} as {what}, {show(covers)}"
                )


def show(thing: object) -> str:
    text = repr(thing)
    return text if len(text) < 120 else text[:117] + "..."
