"""The C engine of the probe build: the product's code, plus what the key oracle wants to see."""

from __future__ import annotations

from typing import Any

from appliance.native import _native_probe  # type: ignore[attr-defined]
from appliance.native.link import Direction, Engine, LinkParams
from appliance.q3p.ports import Progress

_USES = (  # enum qbb_use: key as what, and in doing what
    ("pad", "seal"),
    ("mask", "seal"),
    ("pad", "open"),
    ("mask", "open"),
    ("hash key", "begin"),
    ("fingerprint", "compare"),
)
_ffi: Any = _native_probe.ffi
_lib: Any = _native_probe.lib
_notes = _ffi.new("uint8_t[]", 1 << 20)
_notes_view = _ffi.buffer(_notes)


class ProbeEngine(Engine):
    """An Engine that tells which key words it used."""

    def __init__(self, params: LinkParams) -> None:
        super().__init__(params, native=_native_probe)
        self._stats = _ffi.new("qbb_link_stats *")
        self._digest = _ffi.new("uint8_t[16]")

    @staticmethod
    def take_notes() -> list[tuple[str, str, bytes]]:
        """(use, doing, key bytes as read) since the last call."""
        length = _lib.qbb_probe_take(_notes, 1 << 20)
        notes = []
        at = 0
        while at < length:
            size = 8 * int.from_bytes(_notes_view[at + 2 : at + 4], "big")
            notes.append((*_USES[_notes_view[at][0]], _notes_view[at + 4 : at + 4 + size]))
            at += 4 + size
        return notes

    def fingerprint(self, hash_key: bytes, block: bytes) -> bytes:
        _lib.qbb_fingerprint(self._digest, hash_key, block, len(block))
        self.take_notes()
        return bytes(_ffi.buffer(self._digest))

    def progress(self) -> Progress:
        stats = self._stats
        _lib.qbb_link_read_stats(self._link, stats)
        return Progress(
            stats.out_loaded,
            stats.out_loaded - stats.out_words,
            stats.queued_control_words,
            stats.out_settled,
            stats.in_loaded,
            stats.in_flight,
            stats.last_verified_ns,
        )

    def in_words(self) -> int:
        """Words loaded to open packets with, and not taken yet."""
        _lib.qbb_link_read_stats(self._link, self._stats)
        return int(self._stats.in_words)

    def skipped_packets(self) -> int:
        """Packets given up since the engine was reset."""
        _lib.qbb_link_read_stats(self._link, self._stats)
        return int(self._stats.skipped_packets)

    def unwiped_words(self, direction: Direction, unspent: list[tuple[int, int]]) -> int:
        """How many words of a buffer are not zero though they are outside the stream's ``unspent`` spans."""
        assert self._memory is not None
        words = self.params.buffer_words
        memory = bytes(_ffi.buffer(self._memory._buffers[direction], 8 * words))
        kept = {word % words for start, end in unspent for word in range(start, end)}
        return sum(1 for word in range(words) if word not in kept and any(memory[8 * word : 8 * word + 8]))
