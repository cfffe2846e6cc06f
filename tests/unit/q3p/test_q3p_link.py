"""The link machine, two of them in memory: hello, quarantine, failure, replays, new secrets, missing bytes, silence."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from q3p_pair import MASTER, SLAVE, Pair, started

from appliance.q3p.link import NEVER, NO_KEY_LEFT, Mode
from appliance.q3p.linklog import LinkLog
from appliance.q3p.messages import HEADER, MAC_BYTES, HelloRecords
from appliance.q3p.records import BlockEntry, BlockName, Epoch, Open, Store, Void, encode
from appliance.q3p.settings import BOOTSTRAP_DEVICE
from tests.simulator.channel import AUTHENTICATED, SECOND
from tests.simulator.disk import Disk


def hello(packet: bytes) -> bool:
    return not packet[8] & AUTHENTICATED


def test_a_new_link_comes_up_and_carries_keys() -> None:
    pair = started()
    pair.check_carries_keys()
    log = pair.records(MASTER)
    assert log == pair.records(SLAVE)
    assert [type(record) for record in log[:5]] == [Store] * 4 + [Epoch]
    assert not any(isinstance(record, Void) for record in log)
    assert pair.machine(MASTER).session == pair.machine(SLAVE).session


@pytest.mark.parametrize("first", [MASTER, SLAVE])
def test_either_end_may_start_long_before_the_other(first: int) -> None:
    pair = Pair()
    pair.load_secret(1)
    pair.boot(first)
    now = pair.now_ns
    for _ in range(20):  # alone: ever fewer hellos
        pair.now_ns = pair.machine(first).deadline_ns()
        pair.ends[first].run(pair.now_ns, lambda machine: machine.tick(pair.now_ns))
    assert pair.now_ns - now > 100 * SECOND
    pair.wire.clear()
    pair.boot(1 - first)
    pair.until(lambda: pair.up)


@pytest.mark.parametrize("index", [MASTER, SLAVE])
def test_a_restart_voids_what_was_open_and_uses_the_next_slot(index: int) -> None:
    pair = started()
    before = pair.machine(MASTER).log.state
    opened, slot = set(before.opened), before.next_slot
    assert opened
    pair.boot(index)
    pair.until(lambda: pair.usable)
    pair.run(3)
    voided = {chunk for record in pair.records(SLAVE) if isinstance(record, Void) for chunk in record.chunks}
    assert voided == opened
    assert pair.machine(SLAVE).log.state.next_slot == slot + 1
    pair.check_carries_keys()


def test_a_true_conflict_quarantines_both_ends() -> None:
    pair = started()
    number = pair.machine(MASTER).log.state.next_chunk
    for index, block in ((MASTER, 100), (SLAVE, 200)):
        log = LinkLog(Disk(pair.random, pair.disks[index].log))
        log.append(encode(Store(number, (BlockEntry(BlockName(1, block), 1024),))))
        pair.disks[index].log = log._file.read()
    files = [dict(disk.files) for disk in pair.disks]
    pair.boot()
    pair.until(lambda: pair.modes == (Mode.QUARANTINE, Mode.QUARANTINE))
    sent = len(pair.sent)
    for index in (MASTER, SLAVE):
        assert pair.machine(index).deadline_ns() == NEVER and "contradicts" in pair.machine(index).cause
        assert not pair.ends[index].engine.running() and not pair.ends[index].usable
    for receiver, packet in [(1 - sender, packet) for sender, packet in pair.sent]:
        pair.ends[receiver].packet(pair.now_ns, packet)
    assert len(pair.sent) == sent
    assert [disk.files for disk in pair.disks] == files  # only an operator discards them
    assert ("M", "link-quarantined") in pair.events and ("S", "link-quarantined") in pair.events


@pytest.mark.parametrize("index", [MASTER, SLAVE])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_after_a_failed_write_nothing_is_spent_any_more(index: int, code: int) -> None:
    pair = started()
    pair.disks[index].fail = code
    pair.boot(1 - index)  # a new session makes both write
    pair.until(lambda: pair.modes[index] is Mode.FAILED)
    assert pair.machine(index).cause.startswith("store: ")
    assert not pair.ends[index].engine.running() and not pair.ends[index].usable
    pair.wire.clear()
    sent = len(pair.sent)
    for _, packet in pair.sent[:]:
        pair.ends[index].packet(pair.now_ns, packet)
    for later in range(1, 100):
        now = pair.now_ns + later * SECOND
        pair.ends[index].run(now, lambda machine, now=now: machine.tick(now))  # type: ignore[misc]
        assert not pair.send_key(index)
    assert len(pair.sent) == sent and pair.machine(index).deadline_ns() == NEVER
    pair.boot(index)
    pair.until(lambda: pair.usable)
    pair.check_carries_keys()


def test_wrong_hmacs_are_counted_and_change_nothing() -> None:
    pair = started()
    session, length = pair.machine(SLAVE).session, pair.machine(SLAVE).log.length
    for sender, packet in [(s, p) for s, p in pair.sent if hello(p)]:
        broken = packet[:-MAC_BYTES] + bytes(MAC_BYTES)
        pair.ends[1 - sender].packet(pair.now_ns, broken)
    for index in (MASTER, SLAVE):
        assert sum(pair.machine(index).rejected.values()) > 3
        assert all("HMAC" in reason for reason in pair.machine(index).rejected)
    assert pair.up and pair.machine(SLAVE).session == session and pair.machine(SLAVE).log.length == length


def test_ends_of_different_links_never_meet() -> None:
    pair = Pair()
    pair.load_secret(1)
    pair.ends[SLAVE].settings = replace(pair.ends[SLAVE].settings, link_id=8)
    pair.boot()
    pair.run(60)
    assert pair.modes == (Mode.INIT, Mode.INIT)
    assert all("HMAC" in next(iter(pair.machine(index).rejected)) for index in (MASTER, SLAVE))


def test_replayed_hellos_leave_a_link_up_untouched() -> None:
    pair = started()
    pair.boot(SLAVE)
    pair.until(lambda: pair.usable)
    session, log = pair.machine(MASTER).session, pair.records(MASTER)
    old = [(sender, packet) for sender, packet in pair.sent if hello(packet)]
    for sender, packet in old + old[::-1]:
        for receiver in (sender, 1 - sender):
            pair.ends[receiver].packet(pair.now_ns, packet)
            while pair.wire:
                pair.step()
    assert pair.up and pair.machine(MASTER).session == pair.machine(SLAVE).session == session
    pair.check_carries_keys()
    assert not any(isinstance(record, (Epoch, Void)) for record in pair.records(MASTER)[len(log) :])


def test_a_challenge_answers_nothing_but_the_own_outstanding_nonce() -> None:
    """A challenge held back until the link is up moves nobody (rules 3 and 5)."""
    pair = Pair()
    pair.load_secret(1)
    held: list[tuple[int, bytes]] = []

    def hold_challenges(sender: int, packet: bytes) -> bool:
        if hello(packet) and packet[20] == 2 and len(held) < 2:
            held.append((1 - sender, packet))
            return False
        return True

    pair.passes = hold_challenges
    pair.boot()
    pair.until(lambda: pair.up)
    assert held
    session = pair.machine(MASTER).session
    for receiver, packet in held:
        pair.ends[receiver].packet(pair.now_ns, packet)
    pair.run(1)
    assert pair.up and pair.machine(MASTER).session == session


def test_a_link_without_key_for_an_epoch_comes_back_with_a_new_secret() -> None:
    pair = Pair()
    pair.load_secret(1, length=256)  # four blocks of one slot each
    pair.boot()
    pair.until(lambda: pair.up)
    for _ in range(8):
        pair.boot()
        pair.run(10)
        if not pair.up:
            break
    assert pair.modes == (Mode.SYNC, Mode.SYNC) and pair.machine(MASTER).cause == NO_KEY_LEFT
    pair.load_secret(2)
    pair.boot()
    pair.until(lambda: pair.up)
    for _ in range(8):
        pair.arrive(MASTER, SLAVE)
    pair.until(lambda: pair.usable)
    pair.check_carries_keys()


@pytest.mark.parametrize("index", [MASTER, SLAVE])
def test_an_end_without_the_epochs_bytes_starts_afresh(index: int) -> None:
    """Rule 13: lost after they were reported as held. The next session reports them, and another chunk serves."""
    pair = started()
    chunk = pair.machine(index).log.state.epoch_chunk
    assert chunk is not None
    lost = pair.machine(index).log.state.chunks[chunk].entries[0].name
    pair.boot(1 - index)

    def in_sync() -> bool:
        return pair.modes[index] is Mode.SYNC and not pair.machine(index)._confirm_sent

    pair.until(in_sync)
    pair.machine(index).custody._held.pop(lost)
    pair.until(lambda: pair.usable)
    assert all(chunk not in {live.number for live in pair.machine(end).log.state.live()} for end in (MASTER, SLAVE))
    pair.check_carries_keys()


def test_an_end_without_an_opened_chunks_bytes_starts_afresh() -> None:
    pair = started()
    log = pair.machine(MASTER).log
    chunk = next(iter(log.state.common))
    for entry in log.state.common[chunk].entries:
        pair.machine(SLAVE).custody._held.pop(entry.name)
    session = pair.machine(MASTER).session
    pair.spend(lambda: pair.machine(MASTER).session != session)
    assert any(isinstance(record, Open) and record.chunk == chunk for record in pair.records(MASTER))
    for _ in range(8):
        pair.arrive(MASTER, SLAVE)
    pair.until(lambda: pair.usable)
    assert any(isinstance(record, Void) and chunk in record.chunks for record in pair.records(SLAVE))
    pair.check_carries_keys()


def test_silence_makes_a_link_unusable_and_ends_no_session() -> None:
    pair = started()
    session = pair.machine(MASTER).session
    pair.passes = lambda sender, packet: False
    pair.run(120)
    assert pair.up and not any(end.usable for end in pair.ends)
    assert pair.machine(MASTER).why_unusable() == "the peer is silent"
    assert pair.machine(MASTER).silent
    pair.passes = lambda sender, packet: True
    pair.until(lambda: pair.usable)
    assert pair.machine(MASTER).session == pair.machine(SLAVE).session == session
    pair.check_carries_keys()


def test_an_idle_link_stays_usable_by_a_few_pings() -> None:
    pair = started()
    pair.run(5)
    sent = len(pair.sent)
    pair.run(600)
    assert pair.usable
    assert len(pair.sent) - sent <= 4 * 600 / 20


def test_a_device_alarm_takes_the_link_down_and_up() -> None:
    pair = started()
    pair.machine(MASTER).alarm(pair.now_ns, "a", "error rate 12 %")
    assert not pair.ends[MASTER].usable and pair.ends[SLAVE].usable
    assert pair.machine(MASTER).why_unusable() == "device a: error rate 12 %"
    pair.machine(MASTER).alarm(pair.now_ns, "a", None)
    assert pair.ends[MASTER].usable


@pytest.mark.parametrize("rolled_back", [MASTER, SLAVE])
def test_an_end_rolled_back_gets_the_records_again_and_the_other_tells(rolled_back: int) -> None:
    pair = started()
    snapshot = pair.disks[rolled_back].snapshot()
    for _ in range(6):
        pair.arrive(MASTER, SLAVE)
    pair.run(30)
    length = pair.machine(MASTER).log.length
    pair.boot(rolled_back)
    pair.until(lambda: pair.usable)
    assert not [who for who, event in pair.events if event == "rollback-detected"]  # a mere restart is none
    pair.run(3)
    pair.disks[rolled_back].restore(snapshot)
    pair.boot(rolled_back)
    pair.until(lambda: pair.usable)
    assert [who for who, event in pair.events if event == "rollback-detected"] == ["SM"[rolled_back]]
    pair.run(3)
    assert pair.machine(SLAVE).log.length > length
    assert pair.records(MASTER) == pair.records(SLAVE)
    pair.check_carries_keys()


def test_a_chunk_reported_missing_is_voided_in_the_session() -> None:
    pair = started()
    chunk = next(iter(pair.machine(MASTER).log.state.common))
    pair.machine(SLAVE).custody._held.pop(pair.machine(SLAVE).log.state.chunks[chunk].entries[0].name)
    assert pair.machine(SLAVE).custody.lacks(chunk)
    session = pair.machine(MASTER).session
    pair.spend(lambda: Void((chunk,)) in pair.records(SLAVE))
    assert not any(isinstance(record, Open) and record.chunk == chunk for record in pair.records(MASTER))
    assert pair.machine(MASTER).session == session


def test_records_of_an_older_session_are_not_taken() -> None:
    """Held back while the master was rolled back behind them, they would make the slave's log another one."""
    pair = started()
    before = pair.disks[MASTER].snapshot()
    held: list[bytes] = []

    def hold_records(sender: int, packet: bytes) -> bool:
        records = hello(packet) and packet[HEADER.size] == HelloRecords.kind
        if records:
            held.append(packet)
        return not records

    pair.passes = hold_records
    pair.boot(MASTER)
    pair.until(lambda: held)
    older = held[:]
    pair.disks[MASTER].restore(before)
    session, length = pair.machine(SLAVE).session, pair.machine(SLAVE).log.length
    pair.boot(MASTER)
    pair.until(lambda: pair.machine(SLAVE).session not in (None, session))
    for packet in older:
        pair.ends[SLAVE].packet(pair.now_ns, packet)
    assert pair.modes[SLAVE] is Mode.SYNC and pair.machine(SLAVE).log.length == length
    pair.passes = lambda sender, packet: True
    pair.until(lambda: pair.usable)


def test_masks_that_waiting_messages_will_take_are_not_counted_twice() -> None:
    """A new link: one chunk for epochs, one for the slave, and the master has to tell of many blocks, but what it says
    is sealed late. Its last words still are for the record that opens a chunk for itself."""
    pair = Pair()
    for number in range(2):
        pair.put_block(BlockName(BOOTSTRAP_DEVICE, number), 2048)
    pair.boot()
    pair.until(lambda: pair.up)
    pair.run(1)
    assert isinstance(pair.records(SLAVE)[-1], Open)
    pair.ends[MASTER].late = lambda: SECOND
    for _ in range(12):
        pair.arrive(MASTER, SLAVE)
        pair.run(0.1)
    pair.ends[MASTER].late = lambda: 0
    pair.until(lambda: pair.usable)
    pair.check_carries_keys()
