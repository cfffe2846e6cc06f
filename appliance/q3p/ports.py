"""What a link machine needs from outside: block store, engine, wire.

The programs give real ones, the simulator its own. Every call is one effect, carried out before the next: the machine
appends durably, then sends, in this order, and a crash between any two calls is a case the rules cover.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from appliance.q3p.records import BlockEntry, BlockName


class BlockStore(Protocol):
    """Durable device blocks of one link. Methods raise OSError.

    A block that comes while the link has no session is kept apart, as unsettled, until one is up."""

    def blocks(self) -> dict[BlockName, int]:
        """Held blocks and their lengths in bytes, unsettled ones too."""

    def unsettled(self) -> set[BlockName]: ...

    def settle(self, names: Collection[BlockName]) -> None:
        """From now on these are like the others. Durable when it returns."""

    def destroy(self, name: BlockName) -> None:
        """Wipe and remove; a missing block is no error."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the streams of the running epoch stand, in 8-byte words. `out_queued`: what control messages will take that
    wait to be sealed, by a thread that may be late."""

    out_loaded: int
    out_spent: int
    out_queued: int
    out_settled: int
    in_loaded: int
    in_flight_packets: int
    last_verified_ns: int

    @property
    def usable_masks(self) -> int:
        """Packets without padding that can still be tagged from the words loaded, behind those that wait."""
        return (self.out_loaded - self.out_spent - self.out_queued) // 2


class Engine(Protocol):
    """The data plane's end of the link (csrc/core/link.h). Methods that read blocks raise OSError."""

    def begin(self, epoch: int, block: BlockName, offset: int, master: bool) -> None:
        """New epoch with the slot at this byte offset of the block; everything of the old one is gone."""

    def end(self) -> None: ...

    def load(self, out: bool, entry: BlockEntry) -> bool:
        """Append the block's words to a stream; False when the buffer has no room yet."""

    def close_below(self, out: bool, word: int) -> None: ...

    def allow(self, priority: int) -> None:
        """Only packets of at least this priority may leave."""

    def set_usable(self, usable: bool) -> None:
        """May session keys use the link?"""

    def submit(self, priority: int, payload: bytes) -> bool:
        """Queue a control message, reliably; False when there is no room."""

    def submit_offer(self, priority: int, payload: bytes, hash_key: bytes, blocks: Sequence[BlockEntry]) -> bool:
        """Queue an OFFER with the blocks' fingerprints behind it, padded; False when there is no room."""

    def progress(self) -> Progress: ...


class Fingerprints(Protocol):
    """The padded part of an OFFER, opened, in the data plane's memory until released."""

    def matches(self, index: int, hash_key: bytes, entry: BlockEntry) -> bool:
        """Does our block have fingerprint ``index``? Raises OSError."""

    def release(self) -> None: ...


class Wire(Protocol):
    """Sends one unsealed packet to the peer; may lose it."""

    def send(self, packet: bytes) -> None: ...
