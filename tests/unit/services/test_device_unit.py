"""The device unit against a real fibre and a data plane's end: same bytes at both ends, alarms, redelivery."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.services import control
from tests.unit.services.device_world import ENVIRONMENT, Node, World, wait_for


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, extra="clear_after_blocks = 2\n")
    try:
        yield made
    finally:
        made.close()


def test_both_ends_get_the_same_different_blocks(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 20, "twenty common blocks")
    alice, bob = world.alice.plane.blocks, world.bob.plane.blocks
    common = world.common()
    assert all(alice[id] == bob[id] for id in common)
    assert len({alice[id] for id in common}) == len(common)
    status = wait_for(lambda: world.alice.status()["rate_bps"] > 0 and world.alice.status(), "a rate")
    assert status["state"] == "exchanging"
    assert status["dataplane"] == "connected"
    assert 0.02 < status["qber"] < 0.05
    assert status["alarms"] == []
    assert world.alice.stop() == 0


def test_an_eavesdropper_raises_the_alarm_and_leaving_clears_it(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 3, "blocks before the tap")
    world.ask("tap", fraction=0.5)
    for node in (world.alice, world.bob):
        wait_for(lambda: ("qber", True) in node.plane.alarms(), "the alarm")  # noqa: B023
        assert node.status()["alarms"] == ["qber"]
        assert 0.12 < node.status()["qber"] < 0.18
    made = world.alice.status()["blocks_made"]
    discarded = world.ask("status")["discarded"]
    wait_for(lambda: world.ask("status")["discarded"] > discarded + 3, "further discarded blocks")
    assert world.alice.status()["blocks_made"] == made
    world.ask("tap", fraction=0)
    for node in (world.alice, world.bob):
        wait_for(lambda: node.plane.alarms()[-1:] == [("qber", False)], "the alarm's end")  # noqa: B023
    assert "device-alarm-qber" in world.alice.journal()
    assert "device-alarm-cleared" in world.alice.journal()


def test_a_cut_fibre_is_no_light_not_an_eavesdropper(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 1, "a block")
    world.ask("cut")
    wait_for(lambda: ("no-light", True) in world.alice.plane.alarms(), "the alarm")
    world.ask("mend")
    wait_for(lambda: ("no-light", False) in world.alice.plane.alarms(), "the alarm's end")
    assert ("qber", True) not in world.alice.plane.alarms()


def test_blocks_are_kept_until_accepted_and_redelivered(world: World) -> None:
    world.alice.plane.accepting = False
    world.start()
    wait_for(lambda: len(world.alice.plane.received) == 8, "a full window of unanswered blocks")
    unanswered = set(world.alice.plane.received)
    digests = dict(world.alice.plane.firsts)
    world.alice.plane.accepting = True
    world.alice.plane.hang_up()
    wait_for(lambda: unanswered <= set(world.alice.plane.blocks), "the same blocks again")
    assert {id: world.alice.plane.firsts[id] for id in unanswered} == {id: digests[id] for id in unanswered}
    wait_for(lambda: unanswered <= set(world.bob.plane.blocks), "them at the other end")
    assert all(world.alice.plane.blocks[id] == world.bob.plane.blocks[id] for id in unanswered)
    assert "dataplane-lost" in world.alice.journal()


@pytest.mark.parametrize("retry", [True, False])
def test_a_refused_block_comes_again_or_never(world: World, retry: bool) -> None:
    world.alice.plane.refuse_next = {"reason": "no room", "retry": retry}
    world.start()
    refused = wait_for(lambda: world.alice.plane.received[:1], "a block")[0]
    if retry:
        wait_for(lambda: refused in world.alice.plane.blocks, "the refused block")
    else:
        wait_for(lambda: world.alice.status()["blocks_accepted"] > 10, "later blocks")
        assert world.alice.plane.received.count(refused) == 1
    assert world.alice.status()["blocks_refused"] == (0 if retry else 1)


def test_without_a_data_plane_blocks_wait_and_then_go(tmp_path: Path) -> None:
    world = World(tmp_path, extra="pending_blocks = 16\n")
    try:
        world.alice.plane.accepting = False
        world.start()
        wait_for(lambda: world.alice.status()["blocks_discarded"] >= 5, "blocks without room")
        assert world.alice.status()["blocks_pending"] == 16
        assert world.alice.journal().count("no room for block") == 1
        kept = set(world.alice.plane.received)
        world.alice.plane.accepting = True
        world.alice.plane.hang_up()
        wait_for(lambda: kept <= set(world.alice.plane.blocks), "the kept blocks")
    finally:
        world.close()


def test_a_mismatched_block_differs_in_one_end_only(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 1, "a block")
    world.ask("mismatch", end="bob", blocks=1)
    wait_for(lambda: len(world.common()) >= 30, "thirty blocks")
    different = [id for id in world.common() if world.alice.plane.blocks[id] != world.bob.plane.blocks[id]]
    assert len(different) == 1


def test_a_pattern_fills_the_blocks(world: World) -> None:
    pattern = b"QBB-PATTERN-0123"
    world.ask("pattern", hex=pattern.hex())
    world.start()
    wait_for(lambda: len(world.common()) >= 1, "a block")
    assert set(world.bob.plane.firsts.values()) == {pattern * 4}


def test_an_absent_far_end_is_a_stall(tmp_path: Path) -> None:
    world = World(tmp_path, extra="stalled_after_s = 0.5\n")
    try:
        world.alice.start()
        wait_for(lambda: ("stalled", True) in world.alice.plane.alarms(), "the alarm")
        assert world.alice.status()["state"] == "alone"
        world.bob.start()
        wait_for(lambda: ("stalled", False) in world.alice.plane.alarms(), "the alarm's end")
    finally:
        world.close()


def test_alarms_are_told_again_to_a_data_plane_that_comes_back(world: World) -> None:
    world.start()
    world.ask("tap", fraction=1)
    wait_for(lambda: ("qber", True) in world.alice.plane.alarms(), "the alarm")
    world.alice.plane.messages.clear()
    world.alice.plane.hang_up()
    wait_for(lambda: ("qber", True) in world.alice.plane.alarms(), "the alarm again")


def test_the_fibre_has_two_ends(world: World, tmp_path: Path) -> None:
    world.start()
    wait_for(lambda: world.ask("status")["ends"] == ["alice", "bob"], "both ends")
    third = tmp_path / "carol"
    carol = Node(tmp_path, "carol", "10.9.0.3", "10.9.0.1", world.fibre_address)
    try:
        carol.start()
        wait_for(carol.answers, "the third unit")
        wait_for(lambda: "both ends are taken" in (third / "log").read_text(), "the refusal")
        assert carol.status()["state"] == "no fibre"
    finally:
        carol.close()


def test_the_fibre_refuses_what_makes_no_sense(world: World) -> None:
    for command, arguments, words in [
        ("tap", {"fraction": 2}, "from 0 to 1"),
        ("tap", {"fraction": "much"}, "from 0 to 1"),
        ("mismatch", {"end": "nobody"}, "nobody is connected"),
        ("pattern", {"hex": "xyz"}, "hexadecimal"),
        ("explode", {}, "commands are"),
    ]:
        with pytest.raises(ValueError, match=words):
            world.ask(command, **arguments)


def test_the_control_socket_goes_with_the_unit(world: World) -> None:
    world.alice.start()
    path = world.alice.directory / "device-dev.control"
    wait_for(world.alice.answers, "the unit")
    assert path.stat().st_mode & 0o777 == 0o660
    assert control.ask(path, "help") == ["help", "status"]
    world.alice.stop()
    with pytest.raises(control.NoAnswer, match="device-dev does not answer"):
        control.ask(path, "status")


def test_a_restarted_fibre_goes_on_with_higher_ids(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 5, "blocks of the first fibre")
    world.stop_fibre()
    wait_for(lambda: world.alice.status()["state"] == "no fibre", "its loss to be seen")
    before = set(world.alice.plane.blocks) | set(world.bob.plane.blocks)
    world.fibre = world.start_fibre()
    fresh = wait_for(lambda: world.common() - before, "blocks of the second fibre")
    assert min(fresh) > max(before)
    assert all(world.alice.plane.blocks[id] == world.bob.plane.blocks[id] for id in fresh)
    assert "fibre-lost" in world.alice.journal()


def test_a_killed_unit_comes_back(world: World) -> None:
    world.start()
    wait_for(lambda: len(world.common()) >= 5, "blocks")
    assert world.alice.process is not None
    world.alice.process.kill()
    world.alice.process.wait(10)
    before = set(world.bob.plane.blocks)
    world.alice.start()
    fresh = wait_for(lambda: world.common() - before, "blocks after the restart")
    assert all(world.alice.plane.blocks[id] == world.bob.plane.blocks[id] for id in fresh)


def test_the_fibre_reaches_virtual_machines_by_tcp(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = World(tmp_path, address=f"tcp:127.0.0.1:{port}")
    try:
        world.start()
        common = wait_for(world.common, "a common block")
        assert all(world.alice.plane.blocks[id] == world.bob.plane.blocks[id] for id in common)
    finally:
        world.close()


def run_unit(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.services.device", *(str(word) for word in words)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False)


def test_a_wrong_configuration_ends_the_unit_with_every_problem(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('[node]\nname = "A"\n')
    run = run_unit("dev", "--config", tmp_path / "node.toml")
    assert run.returncode == 78
    assert 'node.toml:2: node.name: "A" cannot be a name' in run.stderr
    assert "node.toml:1: node.address: is missing" in run.stderr
    assert "link: there is none" in run.stderr
    assert run.stderr.count("configuration-refused") == 3


def test_a_unit_that_cannot_have_its_socket_says_so(world: World) -> None:
    (world.alice.directory / "device-dev.control").mkdir()
    run = run_unit("dev", "--config", world.alice.config)
    assert run.returncode == 1
    assert "critical: unit-failed: Is a directory" in run.stderr


def test_a_device_that_is_not_configured_is_refused(world: World) -> None:
    run = run_unit("other", "--config", world.alice.config)
    assert run.returncode == 78
    assert "there is no device other" in run.stderr
