"""Custody: from device blocks to common key, by offers and fingerprints; what is refused, late, lost or ended."""

from __future__ import annotations

from q3p_pair import MASTER, SLAVE, started

from appliance.q3p.offers import MAX_PENDING_OFFERS
from appliance.q3p.records import BlockEntry, BlockName, Close, Open, Store
from tests.simulator.world import BLOCK_BYTES


def stored(pair, entry: BlockEntry) -> bool:  # type: ignore[no-untyped-def]
    return all(entry.name in pair.machine(index).log.state.stored for index in (MASTER, SLAVE))


def test_equal_blocks_become_common_key() -> None:
    pair = started()
    entry = pair.arrive(MASTER, SLAVE)
    pair.until(lambda: stored(pair, entry))
    pair.run(3)
    common = [pair.machine(index).log.state.common for index in (MASTER, SLAVE)]
    assert common[MASTER] == common[SLAVE]
    assert any(chunk.entries == (entry,) for chunk in common[MASTER].values())


def test_blocks_that_differ_are_destroyed_at_both_ends() -> None:
    pair = started()
    entry = pair.arrive(MASTER, SLAVE, equal=False)
    pair.until(lambda: all(entry.name not in disk.files for disk in pair.disks))
    assert pair.events.count(("M", "store-mismatch")) == pair.events.count(("S", "store-mismatch")) == 1
    assert not stored(pair, entry)


def test_a_block_of_another_length_is_refused() -> None:
    pair = started()
    name = BlockName(2, 1)
    data = pair.random.randbytes(BLOCK_BYTES)
    pair.bring(MASTER, BlockEntry(name, BLOCK_BYTES // 2), data[: BLOCK_BYTES // 2])
    pair.bring(SLAVE, BlockEntry(name, BLOCK_BYTES), data)
    pair.until(lambda: all(name not in disk.files for disk in pair.disks))
    assert name not in pair.machine(MASTER).log.state.stored


def test_a_block_that_comes_late_to_the_master_is_stored_then() -> None:
    pair = started()
    entry = pair.arrive(SLAVE)
    pair.run(10)
    assert not stored(pair, entry)
    pair.bring(MASTER, entry, pair.disks[SLAVE].files[entry.name])
    pair.until(lambda: stored(pair, entry))


def test_a_block_that_the_peer_never_shows_expires() -> None:
    pair = started()
    entry = pair.arrive(MASTER)
    pair.run(700)
    assert entry.name not in pair.disks[MASTER].files and ("M", "block-expired") in pair.events
    assert pair.usable


def test_a_block_that_comes_again_after_its_end_is_destroyed() -> None:
    pair = started()
    state = pair.machine(MASTER).log.state
    chunk = next(iter(state.common.values()))
    entry = chunk.entries[0]
    data = pair.disks[MASTER].files[entry.name]
    pair.spend(lambda: not any(entry.name in disk.files for disk in pair.disks))
    for index in (MASTER, SLAVE):
        assert entry.name not in pair.disks[index].files
        pair.disks[index].write_block(entry, data)
        pair.ends[index].run(pair.now_ns, lambda machine: machine.block_arrived(pair.now_ns, entry))
        assert entry.name not in pair.disks[index].files
    pair.run(10)
    names = [e.name for r in pair.records(MASTER) if isinstance(r, Store) for e in r.entries]
    assert len(names) == len(set(names))


def test_spent_chunks_are_closed_and_wiped_at_both_ends() -> None:
    pair = started()

    def closed_chunks() -> set[int]:
        return {c for r in pair.records(MASTER) if isinstance(r, Close) for c in r.chunks}

    pair.spend(lambda: len(closed_chunks()) >= 6)
    closed = closed_chunks()
    pair.run(5)
    opened = {r.chunk: r for r in pair.records(MASTER) if isinstance(r, Open)}
    assert {opened[chunk].direction for chunk in closed} == {0, 1}
    blocks = {e.name for r in pair.records(MASTER) if isinstance(r, Store) and r.chunk in closed for e in r.entries}
    assert all(not blocks.intersection(disk.files) for disk in pair.disks)
    for end in pair.ends:
        end.check_memory()


def test_offers_that_wait_for_blocks_are_bounded() -> None:
    pair = started()
    for _ in range(MAX_PENDING_OFFERS + 20):
        pair.arrive(SLAVE)
        pair.run(1)
        if len(pair.machine(MASTER).log.state.common) < 4:
            pair.arrive(MASTER, SLAVE)
    assert len(pair.machine(MASTER).custody._intake._pending) <= MAX_PENDING_OFFERS
    assert pair.usable
