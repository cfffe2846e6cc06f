"""Custody: from device blocks to common key, by offers and fingerprints; what is refused, late, lost or ended."""

from __future__ import annotations

import pytest
from q3p_pair import MASTER, SLAVE, Pair, started

from appliance.q3p import custody
from appliance.q3p.messages import Offer, Refuse, pack_control
from appliance.q3p.offers import MAX_PENDING_OFFERS
from appliance.q3p.records import BlockEntry, BlockName, Close, Open, Store, Void
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


def test_what_was_given_up_is_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "MOST_GIVEN_UP", 2)
    pair = started()
    entries = []
    for _ in range(3):
        entries.append(pair.arrive(MASTER))
        pair.run(700)
    used = [pair.machine(MASTER).custody.name_is_used(entry.name) for entry in entries]
    assert used == [False, True, True], "the latest"


def test_a_block_that_comes_again_after_its_end_is_destroyed() -> None:
    pair = started()
    state = pair.machine(MASTER).log.state
    chunk = next(iter(state.common.values()))
    entry = chunk.entries[0]
    data = pair.disks[MASTER].files[entry.name]
    pair.spend(lambda: not any(entry.name in disk.files for disk in pair.disks))
    for index in (MASTER, SLAVE):
        assert entry.name not in pair.disks[index].files
        assert pair.machine(index).custody.name_is_used(entry.name)
        pair.disks[index].write_block(entry, data, settled=True)
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


def void_chunks(pair: Pair) -> set[int]:
    return {chunk for record in pair.records(SLAVE) if isinstance(record, Void) for chunk in record.chunks}


def chunk_of(pair: Pair, index: int, name: BlockName) -> int:
    found = [r.chunk for r in pair.records(index) if isinstance(r, Store) and name in [e.name for e in r.entries]]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("index", [MASTER, SLAVE])
@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("within_a_session", [False, True])
def test_another_block_under_the_name_of_a_stored_one_is_not_taken_for_it(
    index: int, restarts: int, within_a_session: bool
) -> None:
    """One end's disk goes back to before a block that is common key, and its device counts anew."""
    pair = started()
    snapshot = pair.disks[index].snapshot()
    if not within_a_session:
        pair.boot()
        pair.until(lambda: pair.usable)
    entry = pair.arrive(MASTER, SLAVE)
    pair.until(lambda: stored(pair, entry))
    pair.run(3)
    chunk = chunk_of(pair, MASTER, entry.name)
    pair.disks[index].restore(snapshot)
    pair.boot(index)
    pair.wire.clear()
    pair.bring(index, entry, pair.random.randbytes(BLOCK_BYTES))  # before the hello is through
    for _ in range(restarts - 1):
        pair.boot(index)
    pair.until(lambda: pair.usable)
    pair.run(3)
    assert chunk in void_chunks(pair)
    assert all(entry.name not in disk.files for disk in pair.disks)


@pytest.mark.parametrize("index", [MASTER, SLAVE])
def test_a_block_of_an_older_life_is_not_taken_for_the_stored_one(index: int) -> None:
    """The disk goes back to where another block stood under the name, which was refused since."""
    pair = started()
    entry = pair.arrive(SLAVE, MASTER, equal=False)
    snapshot = pair.disks[index].snapshot()
    pair.until(lambda: all(entry.name not in disk.files for disk in pair.disks))
    pair.boot()
    pair.until(lambda: pair.usable)
    data = pair.random.randbytes(BLOCK_BYTES)
    for end in (MASTER, SLAVE):
        pair.bring(end, entry, data)
    pair.until(lambda: stored(pair, entry))
    pair.run(3)
    chunk = chunk_of(pair, MASTER, entry.name)
    pair.disks[index].restore(snapshot)
    pair.boot(index)
    pair.until(lambda: pair.usable)
    pair.run(3)
    assert chunk in void_chunks(pair)


def test_a_block_that_was_offered_and_is_gone_has_no_successor_in_the_session() -> None:
    """The master's device keeps the block back; the slave's expires, and its device counts anew."""
    pair = started()
    entry = pair.arrive(SLAVE)
    data = pair.disks[SLAVE].files[entry.name]
    pair.run(700)
    assert ("S", "block-expired") in pair.events
    pair.bring(SLAVE, entry, pair.random.randbytes(BLOCK_BYTES))
    pair.run(5)
    assert entry.name not in pair.disks[SLAVE].files
    pair.bring(MASTER, entry, data)  # what the first offer was for
    pair.until(lambda: stored(pair, entry))
    chunk = chunk_of(pair, MASTER, entry.name)
    pair.until(lambda: chunk in void_chunks(pair))
    assert pair.usable and not pair.machine(MASTER).log.state.chunks.get(chunk)


def test_a_refusal_after_the_store_gives_the_chunk_up() -> None:
    """STORE goes before REFUSE in the queue, whichever was written first."""
    pair = started()
    entry = pair.arrive(MASTER, SLAVE)
    pair.until(lambda: stored(pair, entry))
    pair.run(3)
    chunk = chunk_of(pair, MASTER, entry.name)
    pair.machine(SLAVE).receive_control(pair.now_ns, pack_control(Refuse((entry,))))
    assert entry.name not in pair.disks[SLAVE].files and ("S", "store-mismatch") in pair.events
    pair.until(lambda: chunk in void_chunks(pair))
    assert pair.usable


class Equal:
    """Fingerprints that are all equal to ours, or all not."""

    def __init__(self, equal: bool) -> None:
        self.equal, self.released = equal, False

    def matches(self, index: int, hash_key: bytes, entry: BlockEntry) -> bool:
        return self.equal

    def release(self) -> None:
        self.released = True


def test_a_block_equal_to_one_offer_and_not_to_another_is_refused() -> None:
    pair = started()
    entry = BlockEntry(BlockName(1, 99), BLOCK_BYTES)
    for equal in (True, False):
        offer = pack_control(Offer(bytes(16), (entry,)))
        pair.machine(MASTER).receive_control(pair.now_ns, offer, Equal(equal))
    pair.bring(MASTER, entry, pair.random.randbytes(BLOCK_BYTES))
    pair.run(10)
    assert entry.name not in pair.disks[MASTER].files
    assert not stored(pair, entry)


@pytest.mark.parametrize("stop", ["fail", "quarantine"])
@pytest.mark.parametrize("up", [True, False])
def test_a_machine_that_stops_gives_its_fingerprints_back(stop: str, up: bool) -> None:
    pair = started()
    if not up:  # kept until CONFIRM comes
        pair.boot()
        pair.until(lambda: pair.machine(MASTER)._confirm_sent)
        pair.wire.clear()
    kept = Equal(equal=True)
    entry = BlockEntry(BlockName(1, 99), BLOCK_BYTES)
    pair.machine(MASTER).receive_control(pair.now_ns, pack_control(Offer(bytes(16), (entry,))), kept)
    assert not kept.released
    getattr(pair.machine(MASTER), stop)("a test")
    assert kept.released


def test_a_lost_block_does_not_come_back_as_another() -> None:
    pair = started()
    chunk = next(iter(pair.machine(MASTER).log.state.common.values()))
    entry = chunk.entries[0]
    del pair.disks[SLAVE].files[entry.name]
    pair.boot(SLAVE)
    pair.bring(SLAVE, entry, pair.random.randbytes(BLOCK_BYTES))
    assert entry.name not in pair.disks[SLAVE].files
    pair.until(lambda: pair.usable)
    assert chunk.number in void_chunks(pair)


def test_blocks_that_came_before_the_session_are_settled_by_it_and_stored() -> None:
    pair = started()
    pair.boot()
    pair.wire.clear()
    entry = pair.arrive(MASTER, SLAVE)
    assert all(entry.name in disk.new for disk in pair.disks)
    pair.until(lambda: stored(pair, entry))
    assert not any(disk.new for disk in pair.disks)
    pair.run(3)
    assert entry.name in {
        e.name for e in pair.machine(SLAVE).log.state.common[chunk_of(pair, SLAVE, entry.name)].entries
    }


def make_room(pair: Pair, index: int) -> set[BlockName]:
    """The store is full of blocks that the peer does not have; those that stay."""
    pair.machine(index).make_room(pair.now_ns, BLOCK_BYTES * 100, BLOCK_BYTES)
    return set(pair.machine(index).custody._pickup)


def test_what_is_offered_makes_no_room_before_its_answer_may_have_come() -> None:
    pair = started()
    entry = pair.arrive(SLAVE)
    pair.until(lambda: pair.machine(SLAVE).custody._offered_ns)
    assert make_room(pair, SLAVE) == {entry.name}
    pair.run(30)
    assert make_room(pair, SLAVE) == {entry.name}
    pair.run(40)
    assert pair.machine(SLAVE).custody._times_offered[entry.name] == 2
    assert make_room(pair, SLAVE) == set() and entry.name not in pair.disks[SLAVE].files
    assert pair.machine(SLAVE).custody.displaced == 1


def test_what_was_found_equal_makes_no_room() -> None:
    pair = started()
    entry = BlockEntry(BlockName(1, 99), 1024)  # small: it waits for others
    offer = pack_control(Offer(bytes(16), (entry,)))
    pair.machine(MASTER).receive_control(pair.now_ns, offer, Equal(equal=True))
    pair.bring(MASTER, entry, pair.random.randbytes(1024))
    assert make_room(pair, MASTER) == {entry.name}


def test_no_more_room_is_made_than_is_wanted_nor_below_a_quarter() -> None:
    pair = started()
    names = [pair.arrive(MASTER).name for _ in range(8)]
    custody = pair.machine(MASTER).custody
    kept = custody.kept_bytes()
    custody.make_room(pair.now_ns, BLOCK_BYTES, kept)
    assert list(custody._pickup) == names[1:]
    custody.make_room(pair.now_ns, BLOCK_BYTES, 12 * BLOCK_BYTES)
    assert list(custody._pickup) == names[-3:]


def emptied() -> Pair:
    """A link that has little key left, and of whose blocks the slave alone kept some from before."""
    pair = Pair()
    pair.load_secret(1, length=512)
    for _ in range(8):
        name = BlockName(1, pair.next_block)
        pair.next_block += 1
        pair.put_block(name)
        del pair.disks[MASTER].files[name]
    pair.boot()
    pair.until(lambda: pair.up)
    return pair


def test_a_link_short_of_key_spends_none_on_offers_of_what_the_peer_has_not() -> None:
    pair = emptied()
    pair.run(70)
    assert pair.machine(SLAVE).custody._times_offered == {}
    for _ in range(8):
        pair.arrive(MASTER, SLAVE)
    pair.until(lambda: pair.usable)
    pair.until(lambda: len(pair.machine(SLAVE).custody._times_offered) >= 8)


def test_a_link_short_of_key_offers_what_the_peer_has_too() -> None:
    pair = Pair()
    pair.load_secret(1, length=512)
    names = [BlockName(1, number) for number in range(8)]
    for name in names:
        pair.put_block(name)
    pair.boot()
    pair.until(lambda: pair.usable)
    pair.until(lambda: all(name in pair.machine(SLAVE).log.state.stored for name in names))
