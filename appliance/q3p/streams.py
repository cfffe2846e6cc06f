"""Where the chunks of a running epoch stand in the two word streams, and feeding them to the data plane's buffers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from appliance.q3p.logstate import Chunk
from appliance.q3p.ports import Engine
from appliance.q3p.records import BlockEntry
from appliance.q3p.settings import STARTER_WORDS


@dataclass(frozen=True, slots=True)
class Span:
    """Words [start, end) of a stream are this chunk's."""

    chunk: int
    start: int
    end: int


class Stream:
    """One direction's stream in this epoch, as seen from one end."""

    def __init__(self, out: bool) -> None:
        self.out = out
        self.spans: deque[Span] = deque()
        self.end = STARTER_WORDS
        self._waiting: deque[BlockEntry] = deque()

    def open(self, chunk: Chunk) -> None:
        """The chunk's words join the stream (at the place that the log gives them)."""
        words = chunk.length_bytes // 8
        self.spans.append(Span(chunk.number, self.end, self.end + words))
        self.end += words

    def feed(self, chunk: Chunk) -> None:
        """The chunk may now be loaded; chunks are fed in stream order."""
        self._waiting.extend(chunk.entries)

    def pump(self, engine: Engine) -> None:
        """Load what fits into the buffer. Raises OSError."""
        while self._waiting and engine.load(self.out, self._waiting[0]):
            self._waiting.popleft()

    def settled(self, word: int) -> list[Span]:
        """Chunks that end at or below this word."""
        done = []
        for span in self.spans:
            if span.end > word:
                break
            done.append(span)
        return done

    def close(self, chunk: int, engine: Engine) -> None:
        """The log closed the chunk: its words are gone."""
        while self.spans and any(span.chunk == chunk for span in self.spans):
            span = self.spans.popleft()
            engine.close_below(self.out, span.end)
