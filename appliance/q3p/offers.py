"""The master's intake: blocks that the slave offered, compared with its own, until they can be stored."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.q3p.messages import Offer
from appliance.q3p.ports import BlockStore, Fingerprints
from appliance.q3p.records import BlockEntry, BlockName
from appliance.q3p.reserves import batch_minimum_bytes
from appliance.q3p.settings import SECOND_NS

MAX_OFFERED = 40  # blocks in an OFFER: entries and fingerprints fit one packet
MAX_PENDING_OFFERS = 64
FLUSH_NS = 2 * SECOND_NS  # equal blocks wait so long for others to share the cost of a STORE record


@dataclass(slots=True)
class _Pending:
    """An offer of which some blocks have not come from our device yet."""

    offer: Offer
    fingerprints: Fingerprints
    waiting: dict[BlockName, tuple[int, int]]  # index in the offer, length in bytes


class Intake:
    """Compares and collects; holds no key itself."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._pending: list[_Pending] = []
        self._ready: dict[BlockName, BlockEntry] = {}
        self._ready_since_ns = 0
        self._refused: list[BlockEntry] = []

    def clear(self) -> None:
        """The session ended: offers of it are void."""
        for pending in self._pending:
            pending.fingerprints.release()
        self._pending, self._ready, self._refused = [], {}, []

    def offered(
        self,
        now_ns: int,
        offer: Offer,
        fingerprints: Fingerprints,
        held: dict[BlockName, int],
        stored: set[BlockName],
    ) -> None:
        """Take an offer (and its fingerprints, to release). ``held``: our pickup blocks among those offered."""
        waiting = {
            entry.name: (index, entry.length_bytes)
            for index, entry in enumerate(offer.entries)
            if entry.name not in stored and entry.name not in self._ready
        }
        pending = _Pending(offer, fingerprints, waiting)
        self._pending.append(pending)
        for name, length in held.items():
            if name in waiting:
                self._compare(now_ns, pending, BlockEntry(name, length))
        self._drop_finished()
        if len(self._pending) > MAX_PENDING_OFFERS:
            self._pending.pop(0).fingerprints.release()

    def arrived(self, now_ns: int, entry: BlockEntry) -> None:
        """A block came from our device: somebody may have been waiting for it."""
        for pending in self._pending:
            if entry.name in pending.waiting:
                self._compare(now_ns, pending, entry)
        self._drop_finished()

    def is_ready(self, name: BlockName) -> bool:
        """Was it found equal, and waits to be stored?"""
        return name in self._ready

    def withdrawn(self, name: BlockName) -> None:
        """Our block is gone: what it was equal to says nothing of the next one under its name."""
        self._ready.pop(name, None)

    def _compare(self, now_ns: int, pending: _Pending, entry: BlockEntry) -> None:
        index, length = pending.waiting.pop(entry.name)
        equal = entry.length_bytes == length and pending.fingerprints.matches(index, pending.offer.hash_key, entry)
        if not equal:
            self._refused.append(entry)
        else:
            if not self._ready:
                self._ready_since_ns = now_ns
            self._ready[entry.name] = entry

    def _drop_finished(self) -> None:
        for pending in self._pending:
            if not pending.waiting:
                pending.fingerprints.release()
        self._pending = [pending for pending in self._pending if pending.waiting]

    def take_refused(self) -> tuple[BlockEntry, ...]:
        refused, self._refused = tuple(self._refused[:MAX_OFFERED]), self._refused[MAX_OFFERED:]
        return refused

    def take_ready(self, now_ns: int, chunk_bytes: int) -> list[tuple[BlockEntry, ...]]:
        """Batches to store: full chunks at once, a smaller rest when it has waited."""
        batches = []
        while self._ready:
            batch: list[BlockEntry] = []
            size = 0
            for entry in self._ready.values():
                if batch and (size + entry.length_bytes > chunk_bytes or len(batch) == MAX_OFFERED):
                    break
                batch.append(entry)
                size += entry.length_bytes
            waited = now_ns - self._ready_since_ns >= FLUSH_NS
            if size < batch_minimum_bytes(len(batch)) and not waited:
                break
            for entry in batch:
                del self._ready[entry.name]
            batches.append(tuple(batch))
        return batches
