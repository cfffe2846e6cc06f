"""Block files of a link: which are unsettled, over restarts too, and what stands under a name that is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from appliance.native import blockfile
from appliance.q3p.records import BlockEntry, BlockName
from appliance.services.linkstore import LinkStore

BLOCK = bytes(range(1, 251)) * 16
ENTRY = BlockEntry(BlockName(0, 7), len(BLOCK))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LinkStore]:
    made = LinkStore(tmp_path / "link")
    yield made
    made.close()


def files(store: LinkStore) -> list[str]:
    return sorted(path.name for path in (store.directory / "blocks").iterdir())


def accept(store: LinkStore, content: bytes = BLOCK, settled: bool = False) -> bool:
    fd = os.memfd_create("block", os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        return store.accept(BlockEntry(ENTRY.name, len(content)), fd, settled)
    finally:
        os.close(fd)


def reopened(store: LinkStore) -> LinkStore:
    store.close()
    return LinkStore(store.directory)


def test_one_process_has_a_store_at_a_time(tmp_path: Path) -> None:
    store = LinkStore(tmp_path / "link")
    with pytest.raises(BlockingIOError, match="a data plane still runs"):
        LinkStore(store.directory)
    reopened(store).close()


def test_the_directory_of_a_new_link_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every directory above that was made for it."""
    synced: set[str] = set()
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    directory = tmp_path / "state" / "dataplane" / "line"
    LinkStore(directory).close()
    assert {str(tmp_path), str(tmp_path / "state"), str(directory.parent), str(directory)} <= synced
    synced.clear()
    LinkStore(directory).close()
    assert str(directory.parent) in synced


def test_a_block_is_unsettled_over_a_restart_until_it_is_settled(tmp_path: Path) -> None:
    store = LinkStore(tmp_path / "link")
    assert accept(store)
    store = reopened(store)
    assert store.blocks() == {ENTRY.name: ENTRY.length_bytes} and store.unsettled() == {ENTRY.name}
    store.settle([ENTRY.name])
    store = reopened(store)
    assert store.blocks() == {ENTRY.name: ENTRY.length_bytes} and store.unsettled() == set()
    assert files(store) == ["0000-0000000000000007.key"]
    store.close()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_the_same_block_again_is_no_other(store: LinkStore, first: bool, second: bool) -> None:
    assert accept(store, settled=first)
    before = files(store)
    assert not accept(store, settled=second)
    for content in (BLOCK[::-1], BLOCK[:2000]):
        with pytest.raises(OSError) as refused:
            accept(store, content, settled=second)
        assert refused.value.errno == errno.ENOTUNIQ
    assert files(store) == before


def test_unsettled_blocks_are_destroyed_like_others(store: LinkStore) -> None:
    accept(store)
    store.destroy(ENTRY.name)
    assert files(store) == [] and store.unsettled() == set()


def test_what_a_crash_left_half_written_is_no_block(store: LinkStore) -> None:
    for name in (".0000-0000000000000007.new.tmp", "0000-0000000000000007", "x.new", "0000-0000000000000007.key.new"):
        (store.directory / "blocks" / name).write_bytes(b"half")
    assert store.blocks() == {} and files(store) == []


def test_after_a_failed_replacement_the_log_is_the_file_of_that_name(
    store: LinkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory's sync fails, and the store is discarded then: records must not go to a file without a name."""
    path = store.directory / "log"

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "a test")

    store.append(b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="a test"):
        patch.setattr(os, "fsync", failing)
        store.replace(b"new")
    assert store.read() == path.read_bytes() == b"new"
    assert files_beside(store) == ["blocks", "log"]
    store.truncate(0)
    store.refresh()
    store.append(b"after")
    assert path.read_bytes() == b"after"
    store.refresh()
    assert store.read() == path.read_bytes() == b"after"


def test_a_replacement_that_cannot_be_written_leaves_the_old_log(
    store: LinkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(b"old")
    for broken in (os, "rename"), (blockfile, "append_durable"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="a test"):
            patch.setattr(*broken, Mock(side_effect=OSError(errno.EIO, "a test")))
            store.replace(b"new")
        assert store.read() == (store.directory / "log").read_bytes() == b"old"
        assert files_beside(store) == ["blocks", "log"]


def files_beside(store: LinkStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())
