"""The key store suffers: a restored disk, two histories, a full disk, a wrong secret. Key is never used twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from appliance.demo.account import read_log
from appliance.lab import Network, Node, SitePlan, pair, until
from appliance.q3p.records import EMPTY_DIGEST, Epoch, Open, decode, read_frames

from .conftest import Make
from .talk import Talk, refused_with


def records(node: Node) -> list[bytes]:
    data = (node.disk / "dataplane/line/log").read_bytes()
    return [record for record, _, _ in read_frames(data, 0, 0, EMPTY_DIGEST)]


def opened(log: list[bytes]) -> list[int]:
    """Chunks in the order in which they were opened."""
    return [record.chunk for record in map(decode, log) if isinstance(record, Open)]


def slots(log: list[bytes]) -> list[tuple[int, int]]:
    return [(record.chunk, record.slot) for record in map(decode, log) if isinstance(record, Epoch)]


def restart_with(node: Node, change: str, saved: Path) -> None:
    """Stops the data plane and saves or restores its state directory."""
    node.stop("dataplane")
    live = node.disk / "dataplane"
    if change == "save":
        shutil.copytree(live, saved)
    else:
        shutil.rmtree(live)
        shutil.copytree(saved, live)
    node.start("dataplane")


@pytest.mark.parametrize("site", ["paris", "vienna"])
def test_rollback_of_one_end_heals(network: Network, tmp_path: Path, site: str) -> None:
    node, far = network.node(site), network.node("vienna" if site == "paris" else "paris")
    with Talk(network) as talk:
        talk.keys(3)
    restart_with(node, "save", tmp_path / "saved")
    network.wait_ready()
    old = records(node)
    with Talk(network, port=5001) as talk:
        for _ in range(20):
            talk.key(1024)  # opens chunks that the old copy counts as unspent
    far_log = records(far)
    until(lambda: len(records(far)) > len(old) + 5, "the log grows")
    restart_with(node, "restore", tmp_path / "saved")
    network.wait_ready()
    with Talk(network, port=5002) as talk:
        talk.keys(10)
    healed = records(node)
    assert healed[: len(far_log)] == far_log  # nothing of the history is lost or written anew
    assert read_log(node.disk / "dataplane/line/log").chunks_given_up > 0
    assert len(opened(healed)) == len(set(opened(healed)))
    assert len(slots(healed)) == len(set(slots(healed)))


def test_two_histories_are_quarantined_until_discarded(network: Network, tmp_path: Path) -> None:
    """Vienna comes back with the log of another life under the same secret."""
    paris, vienna = network.node("paris"), network.node("vienna")
    for node in network.nodes.values():
        restart_with(node, "save", tmp_path / node.name)
    network.wait_ready()
    with Talk(network) as talk:
        talk.keys(3)
    for node in network.nodes.values():
        node.stop("dataplane")
    shutil.copytree(vienna.disk / "dataplane", tmp_path / "first")
    for node in network.nodes.values():  # both go back, unnoticed, and write another history from there on
        shutil.rmtree(node.disk / "dataplane")
        shutil.copytree(tmp_path / node.name, node.disk / "dataplane")
        node.start("dataplane")
    network.wait_ready()
    with Talk(network, port=5001) as talk:
        talk.keys(3)
    vienna.stop("dataplane")
    shutil.rmtree(vienna.disk / "dataplane")
    shutil.copytree(tmp_path / "first", vienna.disk / "dataplane")
    vienna.start("dataplane")
    for node in (paris, vienna):
        node.wait_answers("dataplane")
        until(lambda n=node: n.link()["state"] == "quarantine", f"{node.name} quarantines")  # type: ignore[misc]
        assert "contradicts ours" in node.link()["cause"]
        assert "link-quarantined" in node.units["dataplane"].said()
    with paris.client() as client:
        client.register(5003, paris.public_address())
        refused_with(lambda: client.connect(vienna.address, 6000, local_port=5003), "contradicts ours")

    for node in (paris, vienna):
        told = discard(node)
        assert told.returncode == 0, told.stdout + told.stderr
        assert list((node.disk / "dataplane/line/blocks").glob("ffff-*")) == []
    network.make_secret(network.link("line"))
    for node in (paris, vienna):
        node.stop("dataplane")
        node.start("dataplane")
    network.wait_ready()
    with Talk(network, port=5002) as talk:
        talk.keys(5)


def discard(node: Node) -> subprocess.CompletedProcess[str]:
    words = ["--config", str(node.config), "link", "discard", "line", "--yes"]
    command = [sys.executable, "-m", "appliance.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_full_disk(make: Make) -> None:
    """The device's blocks are refused with the reason and kept by the device; there is room again: they go in."""
    vienna_plan = SitePlan("vienna", "1.1.1.2", disk_bytes=2 << 20)
    network = make(pair(vienna=vienna_plan))
    vienna = network.node("vienna")
    ballast = vienna.disk / "ballast"
    until(lambda: fill(ballast), "the disk is full")
    until(lambda: "No space left" in vienna.units["device-fibre-1"].said(), "the reason in the device's journal")
    accepted = vienna.ask("device-fibre-1", "status")["blocks_accepted"]
    ballast.unlink()
    until(lambda: restart_if_failed(vienna), "the data plane answers")
    network.wait_ready()
    until(lambda: vienna.ask("device-fibre-1", "status")["blocks_accepted"] > accepted, "blocks are accepted again")
    with Talk(network) as talk:
        talk.keys(5)


def fill(path: Path) -> bool:
    """Takes what room is left; True when there is none."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    room = os.statvfs(path.parent)
    return room.f_bavail == 0


def restart_if_failed(node: Node) -> bool:
    """A link whose log could not be written stands still until its data plane is started again."""
    link = node.link()
    if link["state"] == "failed":
        assert "No space left" in link["cause"]
        node.stop("dataplane")
        node.start("dataplane")
        node.wait_answers("dataplane")
    return node.link()["state"] != "failed"


def test_wrong_secret_at_one_end(network: Network) -> None:
    """A new link whose ends were given different secrets: `qbb links` says why it does not come up."""
    paris, vienna = network.node("paris"), network.node("vienna")
    for node in (paris, vienna):
        node.stop("dataplane")
        shutil.rmtree(node.disk / "dataplane")
    keep = (network.run.directory / "paris-line.secret").read_bytes()
    network.make_secret(network.link("line"))
    (network.run.directory / "paris-line.secret").write_bytes(keep)
    for node in (paris, vienna):
        node.start("dataplane")
    for node in (paris, vienna):
        node.wait_answers("dataplane")
        told = partial(shown, node)
        until(lambda told=told: "are link secret, hash" in told(), told)  # type: ignore[misc]
        assert not node.usable()
        assert "link-hello-refused" in node.units["dataplane"].said()


def test_a_new_secret_keeps_the_store(network: Network) -> None:
    """The secret is changed at both ends; the link comes up with the log and the key that it had."""
    paris, vienna = network.node("paris"), network.node("vienna")
    with Talk(network) as talk:
        talk.keys(3)
    for node in (paris, vienna):
        node.stop("dataplane")
    before = records(paris)
    network.make_secret(network.link("line"))
    for node in (paris, vienna):
        node.start("dataplane")
    network.wait_ready()
    with Talk(network, port=5001) as talk:
        talk.keys(3)
    assert records(paris)[: len(before)] == before
    assert records(vienna)[: len(before)] == before


def test_an_empty_new_disk_at_one_end_heals(network: Network) -> None:
    """While its peer has the whole log, a node that lost its disk gets the log back; what it held is void."""
    paris, vienna = network.node("paris"), network.node("vienna")
    with Talk(network) as talk:
        talk.keys(3)
    vienna.stop("dataplane")
    shutil.rmtree(vienna.disk / "dataplane")
    before = records(paris)
    vienna.start("dataplane")
    network.wait_ready()
    with Talk(network, port=5001) as talk:
        talk.keys(10)
    healed = records(vienna)
    assert healed[: len(before)] == before
    assert len(opened(healed)) == len(set(opened(healed)))
    assert len(slots(healed)) == len(set(slots(healed)))


def shown(node: Node) -> str:
    command = [sys.executable, "-m", "appliance.cli.main", "--config", str(node.config), "links"]
    return " ".join(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.split())
