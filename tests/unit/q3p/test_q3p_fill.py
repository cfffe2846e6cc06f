"""Devices that fill a store to its most, with blocks of any size of which some come to one end only: the link takes
traffic all the same, and again whenever its key was spent."""

from __future__ import annotations

from random import Random

import pytest
from q3p_pair import MASTER, SLAVE, Pair

from appliance.configuration.schema import least_store
from appliance.q3p.records import BlockEntry, BlockName
from appliance.q3p.reserves import Marks, Reserves
from tests.simulator.world import BLOCK_BYTES

BUFFER_BYTES = 8 * BLOCK_BYTES
LARGEST_BYTES = BUFFER_BYTES // 4


class FullPair(Pair):
    def __init__(self, seed: int, high_bytes: int) -> None:
        super().__init__()
        self.source = Random(1000 + seed)
        table = {"chunk_bytes": BLOCK_BYTES, "buffer_bytes": BUFFER_BYTES, "high_mark_bytes": high_bytes}
        self.most_bytes = least_store(table)
        self.load_secret(1)
        self.boot()
        for index in (MASTER, SLAVE):
            self.machine(index).custody.reserves = Reserves(Marks(256, 512, high_bytes))
        self.until(lambda: self.up)

    def feed(self) -> None:
        size = self.source.choice((LARGEST_BYTES, BLOCK_BYTES, 8 * self.source.randrange(450, LARGEST_BYTES // 8)))
        entry = BlockEntry(BlockName(1, self.next_block), size)
        self.next_block += 1
        data = self.source.randbytes(size)
        for index in (MASTER, SLAVE):
            if self.source.random() > 0.15 and self.has_room(index, size):
                self.bring(index, entry, data)

    def has_room(self, index: int, size: int) -> bool:
        custody = self.machine(index).custody
        if custody.kept_bytes() + size > self.most_bytes:
            self.machine(index).make_room(self.now_ns, size, self.most_bytes)
        return custody.kept_bytes() + size <= self.most_bytes

    def charge(self) -> None:
        for _ in range(500):
            if self.usable:
                return
            self.feed()
            self.run(0.7)
        pytest.fail(f"charging for ever: {[end.machine and end.machine.status() for end in self.ends]}")


@pytest.mark.parametrize("high_bytes", [2048, 2 * BLOCK_BYTES, 16 * BLOCK_BYTES])
@pytest.mark.parametrize("seed", range(2))
def test_a_store_of_the_least_size_takes_what_traffic_needs(seed: int, high_bytes: int) -> None:
    pair = FullPair(seed, high_bytes)
    for _ in range(4):
        pair.charge()
        for _ in range(1000):
            if pair.usable:
                pair.send_key(pair.source.choice((MASTER, MASTER, SLAVE)))
                pair.run(0.01)
