"""device.sock on the real store and C data plane: blocks accepted once and durably, alarms, and broken devices."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.q3p.records import BlockEntry, BlockName, Store, encode
from appliance.services.linkstore import LOG_ROOM_BYTES, LOG_ROOM_SHARE
from tests.unit.services.link_bench import BLOCK, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_a_block_is_on_disk_before_it_is_accepted_and_is_taken_once(bench: Bench) -> None:
    device = bench.hello()
    assert bench.offer(device, 7, BLOCK) == {"type": "accepted", "id": 7}
    assert bench.files() == {"0000-0000000000000007.new": BLOCK}
    assert bench.offer(device, 7, BLOCK)["type"] == "accepted"  # delivered again after a reconnect
    assert bench.files() == {"0000-0000000000000007.new": BLOCK}


def test_another_block_under_a_name_that_is_here_is_refused_for_good_and_told(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    device = bench.hello()
    bench.offer(device, 7, BLOCK)
    rate = bench.unit.key_rate_bps()
    for content in (BLOCK[::-1], BLOCK[:2048], BLOCK * 2):
        answer = bench.offer(device, 7, content)
        assert answer["type"] == "refused" and not answer["retry"] and "another block" in answer["reason"]
    assert bench.files() == {"0000-0000000000000007.new": BLOCK}
    assert capsys.readouterr().err.count("block-name-used") == 1
    assert bench.unit.key_rate_bps() == rate
    assert bench.unit.machine.custody.status()["pickup_bytes"] == len(BLOCK) + 8192
    assert "device d1" in bench.unit.status()["used_names"]
    bench.offer(device, 8, BLOCK)
    assert bench.unit.status()["used_names"] == ""


def test_a_block_whose_name_the_log_has_is_refused_for_good(bench: Bench) -> None:
    device = bench.hello()
    bench.unit.machine.log.append(encode(Store(0, (BlockEntry(BlockName(0, 7), len(BLOCK)),))))
    answer = bench.offer(device, 7, BLOCK)
    assert answer["type"] == "refused" and not answer["retry"] and "used before" in answer["reason"]
    assert bench.files() == {} and bench.unit.key_rate_bps() == 0
    bench.unit.machine.log.state.watermarks[0] = 100
    assert bench.offer(device, 100, BLOCK)["type"] == "refused"
    assert bench.offer(device, 101, BLOCK)["type"] == "accepted"


def leave_room_for_two(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    room = bench.unit.machine.custody.kept_bytes() + 2 * len(BLOCK)
    monkeypatch.setattr(bench.unit, "config", dataclasses.replace(bench.unit.config, store_max_bytes=room))


def test_blocks_that_the_peer_never_got_make_room_for_younger_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of an earlier start first; the link secret's stay."""
    first = Bench(tmp_path)
    first.offer(first.hello(), 9, BLOCK)
    first.close()
    second = Bench(tmp_path)
    leave_room_for_two(second, monkeypatch)
    device = second.hello()
    for number, left in ((1, [1, 9]), (2, [1, 2, 9]), (3, [1, 2, 3]), (4, [2, 3, 4]), (3, [2, 3, 4]), (5, [3, 4, 5])):
        assert second.offer(device, number, BLOCK)["type"] == "accepted"
        assert sorted(second.files()) == [f"{BlockName(0, n)}.new" for n in left]
    assert len(second.unit.machine.custody.bootstrap_entries()) == 4
    assert capsys.readouterr().err.count("block-discarded") == 1
    second.close()


def test_a_store_that_has_its_fill_takes_more_when_some_was_spent(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.unit.machine.log.append(encode(Store(0, (BlockEntry(BlockName(0, 1000), 1 << 20),))))
    leave_room_for_two(bench, monkeypatch)
    device = bench.hello()
    answers = [bench.offer(device, number, BLOCK) for number in (1, 2, 3)]
    assert [answer["type"] for answer in answers] == ["accepted", "accepted", "refused"]
    assert answers[2]["retry"] and answers[2]["full"], "the device keeps it, and tells nobody"
    assert "block-refused" not in capsys.readouterr().err and not bench.unit.status()["no_room"]
    bench.unit.machine.custody._destroy(BlockName(0, 1))
    assert bench.offer(device, 3, BLOCK)["type"] == "accepted"


@pytest.mark.parametrize("stop", ["quarantine", "bar", "fail"])
def test_a_link_that_is_stopped_takes_no_blocks(bench: Bench, stop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It counts none, so they would fill the disk, at the cost of the node's other links."""
    device = bench.hello()
    getattr(bench.unit.machine, stop)("a test of it")
    answer = bench.offer(device, 1, BLOCK)
    assert answer["retry"] and answer["full"] and "the link is stopped: a test of it" in answer["reason"]
    assert "block-refused" not in capsys.readouterr().err and not bench.unit.status()["no_room"]
    assert bench.files() == {}
    bench.unit.discard()
    assert bench.offer(device, 1, BLOCK)["type"] == "accepted"


def test_a_block_leaves_the_key_log_its_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    block = 4096
    large = LOG_ROOM_SHARE * LOG_ROOM_BYTES // block
    full = os.statvfs_result((block, block, large, large, LOG_ROOM_BYTES // block, 0, 0, 0, 0, 255))
    device = bench.hello()
    with monkeypatch.context() as filled:
        filled.setattr(os, "fstatvfs", lambda fd: full)
        answer = bench.offer(device, 1, BLOCK)
        assert answer["retry"] and not answer["full"] and "what the key log needs" in answer["reason"]
        assert "No space left" in bench.unit.status()["no_room"]
    assert bench.offer(device, 1, BLOCK)["type"] == "accepted"


@pytest.mark.parametrize("content", [bytes(4096), BLOCK[:2048] + bytes(2048)], ids=["wiped", "half wiped"])
def test_a_block_of_zeros_is_refused_for_good(bench: Bench, content: bytes) -> None:
    answer = bench.offer(bench.hello(), 7, content)
    assert answer["type"] == "refused" and not answer["retry"] and "zeros" in answer["reason"]
    assert bench.files() == {}


@pytest.mark.parametrize(
    ("block_id", "content", "length"),
    [(1, b"x" * 100, None), (1, BLOCK, 8192), (1, b"", None), (1, BLOCK, -8), (1, BLOCK, 1 << 40), (1, BLOCK, "8"),
     (-1, BLOCK, None), (2**64, BLOCK, None), ("1", BLOCK, None), (None, BLOCK, None)],
)  # fmt: skip
def test_a_wrong_block_is_refused_with_a_reason_and_leaves_nothing(
    bench: Bench, block_id: Any, content: bytes, length: Any
) -> None:
    answer = bench.offer(bench.hello(), block_id, content, length)
    assert answer["type"] == "refused" and answer["reason"]
    assert bench.files() == {}


@pytest.mark.parametrize(
    "message",
    [b"", b"\xff\xfe", b"[]", b"{}", b"null", b"{" * 3000, {"type": "block", "id": 1}, {"type": "hello"},
     {"type": "hello", "link": ["vienna"], "device": {"a": 1}}, {"type": "hello", "link": "vienna", "device": ["d1"]},
     {"type": "hello", "link": "rome", "device": "d1"}, {"type": ["x"]}],
)  # fmt: skip
def test_a_stranger_is_refused_and_the_port_lives(bench: Bench, message: Any) -> None:
    stranger = bench.connect()
    if message == b"":
        stranger.close()
        bench.turn()
    else:
        assert bench.ask(stranger, message)["type"] == "refused"
    assert bench.offer(bench.hello(), 1, BLOCK)["type"] == "accepted"


def test_alarms_are_kept_by_cause_and_forgotten_with_the_connection(bench: Bench) -> None:
    device = bench.hello()
    for cause in ("qber", "no-light"):
        device.send(json.dumps({"type": "alarm", "on": True, "cause": cause, "qber": 0.2}).encode())
    device.send(json.dumps({"type": "alarm", "on": False, "cause": "no-light"}).encode())
    bench.turn()
    assert bench.unit.devices["d1"].alarm == "qber"
    assert list(bench.unit.machine.alarms) == ["d1"]
    device.close()
    bench.turn()
    bench.hello()
    assert bench.unit.devices["d1"].alarm is None and bench.unit.machine.alarms == {}


def test_status_takes_numbers_only(bench: Bench) -> None:
    device = bench.hello()
    device.send(json.dumps({"type": "status", "qber": "much", "rate_bps": 5.0, "more": [1]}).encode())
    bench.turn()
    assert bench.unit.devices["d1"].status == {"rate_bps": 5.0}


def test_any_bytes_are_answered_or_ignored_but_never_break_the_port(bench: Bench) -> None:
    source = random.Random(20)
    device = bench.hello()
    words = [b'"type"', b'"block"', b'"id"', b":", b",", b"{", b"}", b"1", b"null", b"[", b'"alarm"', b'"on"', b"true"]
    for _ in range(300):
        made = b"".join(source.choice(words) for _ in range(source.randrange(1, 14)))
        device.send(made if source.random() < 0.7 else source.randbytes(source.randrange(1, 60)))
        bench.turn()
    device.close()
    assert bench.offer(bench.hello(), 1, BLOCK)["type"] == "accepted"
