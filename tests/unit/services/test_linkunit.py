"""A link on its real store through restarts and a disk that fails: what is believed, what stops, what comes back."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.native import blockfile
from appliance.q3p.link import Mode
from appliance.q3p.records import BlockEntry, BlockName, Store, encode
from appliance.services.linkstore import REFRESH_ROOM_BYTES
from tests.unit.services.link_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def write_record(bench: Bench, chunk: int = 0) -> None:
    bench.unit.machine.log.append(encode(Store(chunk, (BlockEntry(BlockName(0, chunk), 4096),))))


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_start_believes_no_log_that_it_did_not_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync the page cache holds records that the disk never got: a start writes all of them anew."""
    first = Bench(tmp_path)
    write_record(first)
    path = first.unit.store.directory / "log"
    before, content = path.stat().st_ino, path.read_bytes()
    first.close()
    synced: list[bytes] = []
    append = blockfile.append_durable
    monkeypatch.setattr(
        blockfile, "append_durable", lambda fd, data, place: (append(fd, data, place), synced.append(data))
    )
    second = Bench(tmp_path)
    assert synced == [content]
    assert path.read_bytes() == content and path.stat().st_ino != before
    assert second.unit.machine.log.length == 1
    second.close()


def test_a_disk_that_is_full_at_the_start_stops_the_link_until_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Bench(tmp_path)
    write_record(first)
    first.close()
    with monkeypatch.context() as full:
        full.setattr(blockfile, "append_durable", full_disk)
        second = Bench(tmp_path)
        assert second.unit.machine.mode is Mode.FAILED
        assert "No space left" in second.unit.cause()
        assert [path.name for path in second.unit.store.directory.glob("log*")] == ["log"]
        second.unit._recover()
        assert second.unit.machine.mode is Mode.FAILED
    second.unit._recover()
    assert second.unit.machine.mode is Mode.INIT
    assert second.unit.machine.log.length == 1
    second.close()


class FullDisk:
    """No log can be written before a block is destroyed; then there is room, and all that is wanted after `lacking`."""

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, lacking: int) -> None:
        self._folder, self._files = folder, len(list(folder.iterdir()))
        self._enough = REFRESH_ROOM_BYTES // 4096 + 1 - lacking
        self._append = blockfile.append_durable
        patch.setattr(blockfile, "append_durable", self.append)
        patch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result((4096, 4096, 0, 0, self.room(), 0, 0, 0, 0, 255)))

    def destroyed(self) -> int:
        return self._files - len(list(self._folder.iterdir()))

    def room(self) -> int:
        return self._enough + self.destroyed()

    def append(self, fd: int, data: bytes, place: str) -> None:
        if not self.destroyed():
            full_disk()
        self._append(fd, data, place)


EARLIER = {5: ".new", 4: ".new", 3: ".key", 2: ".key", 0: ".key"}  # the log names the last one; the first is newest


@pytest.mark.parametrize("lacking", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("readable", [True, False])
def test_on_a_full_disk_blocks_that_are_nobodys_key_make_room_for_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], lacking: int, readable: bool
) -> None:
    first = Bench(tmp_path)
    write_record(first)
    folder, log = first.unit.store.directory / "blocks", first.unit.store.directory / "log"
    first.close()
    secret = {path.name for path in folder.iterdir()}
    names = [f"{BlockName(0, number)}{suffix}" for number, suffix in EARLIER.items()]
    for age, name in enumerate(names):
        (folder / name).write_bytes(b"k" * 4096)
        os.utime(folder / name, (1000 - age, 1000 - age))
    if not readable:
        log.write_bytes(b"x" * 4000)
    with monkeypatch.context() as patch:
        FullDisk(patch, folder, lacking)
        second = Bench(tmp_path)
    gone = min(lacking, 4 if readable else 2)
    assert {path.name for path in folder.iterdir()} == secret | set(names[gone:])
    assert f"{gone} blocks, to make room for the key log" in capsys.readouterr().err
    assert second.unit.machine.mode is (Mode.INIT if readable else Mode.QUARANTINE)
    second.close()


def test_a_damaged_log_stops_the_link_and_stays_as_it_is_until_it_is_discarded(tmp_path: Path) -> None:
    first = Bench(tmp_path)
    for chunk in range(40):
        write_record(first, chunk)
    path = first.unit.store.directory / "log"
    first.close()
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    second = Bench(tmp_path)
    assert second.unit.machine.mode is Mode.QUARANTINE
    assert "damaged" in second.unit.cause()
    assert path.read_bytes() == damaged
    second.unit.discard()
    assert second.unit.machine.mode is Mode.INIT
    second.close()


def test_a_log_that_is_read_in_part_is_a_failed_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(bench)
    whole, store = os.pread, bench.unit.store
    data = store.read()
    monkeypatch.setattr(os, "pread", lambda fd, size, at: whole(fd, min(size, 10), at))
    assert store.read() == data  # in pieces
    monkeypatch.setattr(os, "pread", lambda fd, size, at: b"")
    with pytest.raises(OSError, match="of which 0 could be read"):
        store.read()


@pytest.mark.parametrize("way", ["recovery", "discard"])
def test_a_device_alarm_stands_after_the_machine_was_built_anew(bench: Bench, way: str) -> None:
    bench.unit.alarm("d1", "qber", on=True)
    alarms = dict(bench.unit.machine.alarms)
    assert list(alarms) == ["d1"]
    bench.unit.machine.fail("a test")
    if way == "recovery":
        bench.unit._recover()
    else:
        bench.unit.discard()
    assert bench.unit.machine.mode is Mode.INIT
    assert bench.unit.machine.alarms == alarms
    bench.unit.alarm("d1", "qber", on=False)
    assert bench.unit.machine.alarms == {}


def test_an_empty_log_needs_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Bench(tmp_path).close()
    monkeypatch.setattr(blockfile, "append_durable", full_disk)
    bench = Bench(tmp_path)
    assert bench.unit.machine.mode is Mode.INIT
    bench.close()
