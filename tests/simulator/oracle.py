"""The key oracle: names every word of key and records what it covered, at both ends.

It stands outside the product. Device blocks are random, so a word (8 bytes) of key is known by its value alone; the probe in
the C core tells which words an operation read. A second, different use of a word fails the run, however offsets moved. A word
that is no device key at all (a wiped buffer, say) fails it too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.q3p.records import BlockName

Word = tuple[BlockName, int]


class KeyMisuse(AssertionError):
    """A rule about key was broken."""


@dataclass
class KeyOracle:
    """``words``: value to name; ``covered``: name to the thing that it covers."""

    words: dict[bytes, Word] = field(default_factory=dict)
    covered: dict[bytes, object] = field(default_factory=dict)
    uses: int = 0

    def block_made(self, name: BlockName, data: bytes) -> None:
        """A device made this block."""
        for offset in range(0, len(data), 8):
            self.words[data[offset : offset + 8]] = (name, offset // 8)

    def used(self, who: str, what: str, key: bytes, covers: object, opening: bool = False) -> None:
        """``key`` bytes (whole words) were used by ``who`` for ``covers``; opening: on a verified packet from the peer."""
        for offset in range(0, len(key), 8):
            word = key[offset : offset + 8]
            self.uses += 1
            name = self.words.get(word)
            if name is None:
                raise KeyMisuse(f"{who} used {what} from memory that holds no device key: {word.hex()}")
            known = self.covered.get(word)
            if known is None:
                if opening:
                    raise KeyMisuse(f"{who} opened a packet with word {name}, which sealed nothing")
                self.covered[word] = covers
            elif known != covers:
                raise KeyMisuse(f"word {name} covers two things: {show(known)} and, by {who} as {what}, {show(covers)}")


def show(thing: object) -> str:
    text = repr(thing)
    return text if len(text) < 120 else text[:117] + "..."
