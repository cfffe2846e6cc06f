"""A link secret becomes key once: for one link of the node, whatever it is called, across restarts and crashes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.native import blockfile, linksecret
from appliance.q3p.link import Mode
from appliance.q3p.linklog import LinkLog
from appliance.q3p.records import BlockEntry, BlockName, Store, encode
from appliance.q3p.settings import BOOTSTRAP_DEVICE
from appliance.services.control import Refused
from appliance.services.dataplane import DataPlaneService
from appliance.services.linkstore import LinkStore, secret_id
from appliance.services.linkunit import LinkUnit
from appliance.services.loadedsecrets import FILE_NAME, LoadedSecrets
from appliance.services.runtime import Loop


class Node:
    """A node's state directory, and its data plane with the links that are wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stores = folder, folder / "state" / "dataplane"
        self.made = 0

    def secret(self) -> Path:
        self.made += 1
        path = self.folder / f"secret-{self.made}"
        linksecret.make(path, 8192)
        return path

    @contextmanager
    def running(self, **secrets: Path) -> Iterator[DataPlaneService]:
        text = f'[node]\nname = "paris"\naddress = "1.1.1.1"\nstate_directory = "{self.folder}/state"\n'
        text += f'runtime_directory = "{self.folder}"\n'
        for number, (name, path) in enumerate(secrets.items(), 2):
            text += f'[[link]]\nname = "{name}"\npeer = "1.1.{number}.1"\nlisten = "127.0.0.1:73{number:02}"\n'
            text += f'remote = "127.0.0.1:74{number:02}"\nsecret = "{path}"\n'
        service = DataPlaneService(Loop(), config.parse(text))
        try:
            service.start()
            yield service
        finally:
            service.stop()

    def blocks(self, link: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.stores / link / "blocks").iterdir()}

    def id(self, secret: Path) -> int:
        key, block, _ = linksecret.read(secret)
        try:
            return secret_id(key)
        finally:
            key.close()
            block.close()

    def forget_the_record(self) -> None:
        """As a node from before there was one."""
        (self.stores / FILE_NAME).unlink()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    (tmp_path / "state").mkdir()
    return Node(tmp_path)


def units(service: DataPlaneService) -> dict[str, LinkUnit]:
    return {unit.config.name: unit for unit in service._links}


def causes(service: DataPlaneService) -> dict[str, str]:
    return {link["name"]: link["cause"] for link in service.status()["links"] if link["state"] == "down"}


def load(node: Node, link: str, secret: Path) -> int:
    key, block, length = linksecret.read(secret)
    store = LinkStore(node.stores / link)
    try:
        return store.load_bootstrap(key, block, length, LinkLog(store).state.stored)
    finally:
        store.close()
        key.close()
        block.close()


# --- one secret, two links -------------------------------------------------------------------------------------------


def test_two_links_with_one_secret_are_told_and_the_first_goes_on(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, own = node.secret(), node.secret()
    for _ in ("first start", "restart"):
        with node.running(vienna=secret, rome=secret, oslo=own) as service:
            assert list(causes(service)) == ["rome"]
            assert "its link secret was loaded for link vienna" in causes(service)["rome"]
            assert "qbb link secret for link rome, at both ends" in causes(service)["rome"]
            assert "old name" not in causes(service)["rome"]
            assert {name: unit.machine.mode for name, unit in units(service).items()} == {
                "vienna": Mode.INIT, "rome": Mode.BARRED, "oslo": Mode.INIT,
            }  # fmt: skip
        assert "link-barred: link rome to 1.1.3.1" in capsys.readouterr().err
        assert [len(node.blocks(name)) for name in ("vienna", "rome", "oslo")] == [4, 0, 4]
    with node.running(rome=secret, vienna=secret) as service:
        assert list(causes(service)) == ["rome"], "the order in the node file does not matter"
    with node.running(vienna=secret, rome=node.secret()) as service:
        assert causes(service) == {}
    assert len(node.blocks("rome")) == 4


def test_a_barred_link_takes_no_part(node: Node) -> None:
    secret = node.secret()
    with node.running(vienna=secret, rome=secret) as service:
        rome = units(service)["rome"]
        before = node.blocks("vienna"), node.blocks("rome"), rome.store.read()
        rome.tick()
        rome.hello(bytes(100))
        rome.start()
        assert (rome.machine.mode, rome.machine.rejected) == (Mode.BARRED, {})
        with pytest.raises(Refused, match="only a quarantined or failed store"):
            service._discard({"link": "rome"})
        assert (node.blocks("vienna"), node.blocks("rome"), rome.store.read()) == before


def test_a_renamed_link_wants_a_new_secret_or_its_old_name(node: Node) -> None:
    secret = node.secret()
    with node.running(vienna=secret):
        pass
    with node.running(wien=secret) as service:
        assert "was loaded for link vienna" in causes(service)["wien"]
        assert "or give the link its old name back" in causes(service)["wien"]
    assert node.blocks("wien") == {}
    with node.running(vienna=secret) as service:
        assert causes(service) == {}
    with node.running(wien=node.secret()) as service:
        assert causes(service) == {}
    assert len(node.blocks("wien")) == 4


def test_what_was_loaded_is_not_loaded_again_though_the_links_directory_is_gone(node: Node) -> None:
    secret = node.secret()
    assert [load(node, "vienna", secret) for _ in range(2)] == [4, 0]
    shutil.rmtree(node.stores / "vienna")
    assert load(node, "vienna", secret) == 0
    assert load(node, "vienna", node.secret()) == 4


def discard(node: Node, link: str, secret: Path) -> int:
    key, block, _ = linksecret.read(secret)
    store = LinkStore(node.stores / link)
    try:
        return store.discard(key)
    finally:
        store.close()
        key.close()
        block.close()


def test_a_discarded_stores_secret_is_not_loaded_again(node: Node) -> None:
    secret = node.secret()
    load(node, "vienna", secret)
    assert discard(node, "vienna", secret) == 8192
    assert (load(node, "vienna", secret), load(node, "wien", secret)) == (0, 0)


def test_what_was_discarded_is_known_to_an_earlier_version_and_without_the_record(node: Node) -> None:
    """Which looks into the link's own `burnt`; there what a crash cut short spoils no line but its own."""
    first, second = node.secret(), node.secret()
    burnt = node.stores / "vienna" / "burnt"
    for secret in (first, second):
        load(node, "vienna", secret)
        for _ in range(2):
            discard(node, "vienna", secret)
        with burnt.open("a") as file:
            file.write("0badc0")
    assert burnt.read_text().split() == [f"{node.id(first):08x}", "0badc0", f"{node.id(second):08x}", "0badc0"]
    assert burnt.stat().st_mode & 0o777 == 0o600
    node.forget_the_record()
    for secret in (first, second):
        assert (load(node, "vienna", secret), load(node, "wien", secret)) == (0, 0)


def test_what_an_earlier_version_discarded_meanwhile_is_not_loaded(node: Node) -> None:
    old, secret, shared = node.secret(), node.secret(), node.secret()
    load(node, "vienna", old)
    load(node, "oslo", shared)
    (node.stores / "vienna" / "burnt").write_text(f"{node.id(secret):08x}\n{node.id(shared):08x}\n")
    assert (load(node, "vienna", secret), load(node, "wien", secret)) == (0, 0)
    with node.running(vienna=node.secret(), oslo=shared) as service:
        assert "was loaded for link vienna" in causes(service)["oslo"]
    assert f"{node.id(secret):08x} vienna\n" in (node.stores / FILE_NAME).read_text()


def test_a_discarded_store_burns_no_secret_of_another_link(node: Node) -> None:
    secret = node.secret()
    load(node, "vienna", secret)
    load(node, "rome", secret)
    discard(node, "rome", secret)
    assert not (node.stores / "rome" / "burnt").exists()
    with node.running(vienna=secret) as service:
        assert causes(service) == {}


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [0, 1, 3])
def test_a_crash_between_record_and_blocks_loses_no_key(
    node: Node, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The record says `loading` then: the rest is loaded at the next start, and by no other link."""
    secret, left = node.secret(), written
    real = blockfile.write

    def crashing(*arguments: Any) -> None:
        nonlocal left
        if not left:
            raise OSError(5, "power is gone")
        left -= 1
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="power is gone"):
        patch.setattr(blockfile, "write", crashing)
        load(node, "vienna", secret)
    assert (node.stores / FILE_NAME).read_text() == f"{node.id(secret):08x} vienna loading\n"
    assert load(node, "wien", secret) == 0
    assert load(node, "vienna", secret) == 4 - written
    assert (node.stores / FILE_NAME).read_text() == f"{node.id(secret):08x} vienna\n"


@pytest.mark.parametrize(("good", "blocks"), [(0, 0), (1, 4)])
def test_without_a_durable_record_the_link_does_not_start(
    node: Node, monkeypatch: pytest.MonkeyPatch, good: int, blocks: int
) -> None:
    """It cannot be written before, or after, the blocks are. The old one stands."""
    secret = node.secret()
    load(node, "oslo", node.secret())
    real, left = blockfile.append_durable, good

    def failing(fd: int, data: bytes, place: str) -> None:
        nonlocal left
        if place == FILE_NAME:
            if not left:
                raise OSError(28, "no room")
            left -= 1
        real(fd, data, place)

    with monkeypatch.context() as patch:
        patch.setattr(blockfile, "append_durable", failing)
        with node.running(vienna=secret) as service:
            assert units(service)["vienna"].machine.mode is Mode.FAILED
            assert "no room" in units(service)["vienna"].cause()
    assert len(node.blocks("vienna")) == blocks
    assert (f"{node.id(secret):08x} vienna loading" in (node.stores / FILE_NAME).read_text()) == bool(blocks)
    assert load(node, "vienna", secret) == 4 - blocks


def test_a_damaged_record_is_not_passed_over(node: Node) -> None:
    load(node, "vienna", node.secret())
    for text in ("0badc0de\n", "zzzzzzzz vienna\n", "0badc0de vienna once more\n"):
        (node.stores / FILE_NAME).write_text(text)
        with pytest.raises(OSError, match="record of link secrets that were loaded is damaged"):
            load(node, "rome", node.secret())


# --- nodes from before there was the record --------------------------------------------------------------------------


def test_an_existing_node_keeps_its_key_and_its_links(node: Node) -> None:
    """By its blocks, by its log when they are spent, by `burnt` when the store was discarded."""
    held, spent, burnt = node.secret(), node.secret(), node.secret()
    for link, secret in (("held", held), ("spent", spent), ("burnt", burnt)):
        load(node, link, secret)
    stored = LinkStore(node.stores / "spent")
    names = [BlockName(BOOTSTRAP_DEVICE, node.id(spent) << 8 | number) for number in range(4)]
    LinkLog(stored).append(encode(Store(0, tuple(BlockEntry(name, 2048) for name in names))))
    stored.close()
    for link in ("spent", "burnt"):
        for path in (node.stores / link / "blocks").iterdir():
            path.unlink()
    (node.stores / "burnt" / "burnt").write_text(f"{node.id(burnt):08x}\n\0\0")
    before = node.blocks("held")
    node.forget_the_record()
    with node.running(held=held, spent=spent, burnt=burnt) as service:
        assert causes(service) == {}
    assert (node.blocks("held"), node.blocks("spent"), node.blocks("burnt")) == (before, {}, {})
    for secret in (held, spent, burnt):
        assert load(node, "other", secret) == 0


def test_a_load_that_an_earlier_version_left_half_done_goes_on(node: Node) -> None:
    secret = node.secret()
    load(node, "vienna", secret)
    next(iter((node.stores / "vienna" / "blocks").iterdir())).unlink()
    node.forget_the_record()
    assert [load(node, "vienna", secret) for _ in range(2)] == [1, 0]


def both_loaded(node: Node, secret: Path) -> None:
    """Two links, as an earlier version let them."""
    load(node, "vienna", secret)
    shutil.copytree(node.stores / "vienna", node.stores / "rome")
    node.forget_the_record()


def test_a_secret_that_two_links_have_loaded_is_key_of_neither(node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    secret = node.secret()
    both_loaded(node, secret)
    with node.running(vienna=secret, rome=secret) as service:
        assert set(causes(service)) == {"vienna", "rome"}
    with node.running(vienna=node.secret(), rome=node.secret()) as service:
        assert causes(service) == {}
    shared = f"{BOOTSTRAP_DEVICE:04x}-{node.id(secret) << 8:016x}"[:-2]
    for link in ("vienna", "rome"):
        assert len(node.blocks(link)) == 4
        assert not any(name.startswith(shared) for name in node.blocks(link))
    assert capsys.readouterr().err.count("secret-destroyed") == 2


def test_a_link_that_was_renamed_under_an_earlier_version_goes_on_without_the_shared_key(node: Node) -> None:
    secret = node.secret()
    both_loaded(node, secret)
    (node.stores / "rome" / "blocks" / "0000-0000000000000001.key").write_bytes(bytes(64))
    with node.running(rome=secret) as service:
        assert causes(service) == {}
    assert list(node.blocks("rome")) == ["0000-0000000000000001.key"]


def test_the_record_is_private(node: Node) -> None:
    load(node, "vienna", node.secret())
    assert (node.stores / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert LoadedSecrets(node.stores).others(1, "vienna") == []
