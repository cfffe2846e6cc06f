"""qbb zeroize on a real store's files: nothing of the key is left, and nothing goes while a unit runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from appliance import config
from appliance.cli import zeroize
from appliance.cli.main import main
from appliance.native import linksecret
from appliance.services.linkstore import LinkStore, secret_id
from tests.unit.cli.cli_world import CONFIGURATION, Units


@pytest.fixture
def node(tmp_path: Path) -> config.NodeConfig:
    """Two links; the store of the first holds the link secret's blocks and a half-written file."""
    secret = tmp_path / "paris.secret"
    linksecret.make(secret, 8192)
    text = CONFIGURATION.format(run=tmp_path).replace('name = "paris"\n', f'name = "paris"\nsecret = "{secret}"\n', 1)
    (tmp_path / "node.toml").write_text(text)
    node = config.load(tmp_path / "node.toml")
    fill(node, secret)
    return node


def fill(node: config.NodeConfig, secret: Path) -> int:
    """Loads the secret's blocks as a starting data plane does. Returns how many."""
    key, block, length = linksecret.read(secret)
    store = LinkStore(node.link_state("paris"))
    try:
        return store.load_bootstrap(key, block, length, set())
    finally:
        store.append(b"log")
        (store.directory / "blocks" / ".00.tmp").write_bytes(b"half")
        store.close()
        key.close()
        block.close()


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_everything_of_the_key_goes_and_the_audit_log_stays(
    node: config.NodeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = node.state_directory / "keys" / "audit.log"
    audit.parent.mkdir()
    audit.write_text("given\n")
    left = node.link_state("removed") / "blocks"  # of a link that the configuration no longer has
    left.mkdir(parents=True)
    (left / "00000001-0000000000000001.key").write_bytes(b"key")
    held = [path.open("rb") for path in node.link_state("paris").glob("blocks/*.key")]
    assert len(held) == 4
    assert main(["--config", node.source, "--json", "zeroize", "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["destroyed_bytes"] >= 8192
    assert told["problems"] == []
    assert told["secrets"] == [str(tmp_path / "paris.secret")]
    assert files(node.state_directory) == ["dataplane/paris/burnt", "keys/audit.log"]
    for file in held:
        with file:
            assert not any(file.read()), "overwritten before it was removed"
    assert not (tmp_path / "paris.secret").exists()


def test_a_copy_of_the_secret_is_not_loaded_again(node: config.NodeConfig, tmp_path: Path) -> None:
    copy = tmp_path / "copy.secret"
    copy.write_bytes((tmp_path / "paris.secret").read_bytes())
    copy.chmod(0o600)
    key, block, _ = linksecret.read(copy)
    named = f"{secret_id(key):08x}"
    key.close()
    block.close()
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    assert named in (node.link_state("paris") / "burnt").read_text()
    assert fill(node, copy) == 0


def test_secrets_stored_as_credentials_go_too(
    node: config.NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "credstore.encrypted"
    stored.mkdir()
    (stored / "qbb.link.rome").write_bytes(b"encrypted")
    (stored / "other").write_bytes(b"not ours")
    monkeypatch.setattr(zeroize, "CREDSTORES", (stored, tmp_path / "none"))
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    assert files(stored) == ["other"]


def test_a_running_unit_stops_it(units: Units, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(units.config), "zeroize", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "qbb-dataplane runs: nothing was destroyed" in told
    assert "systemctl stop qbb.target" in told


@pytest.mark.parametrize(("typed", "gone"), [("alice", True), ("Alice", False), ("", False)])
def test_it_asks_for_the_nodes_name(
    node: config.NodeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, gone: bool
) -> None:
    before = files(node.state_directory)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    assert main(["--config", node.source, "zeroize"]) == (0 if gone else 1)
    assert "of stored key of 1 links and 1 link secrets of node alice" in capsys.readouterr().out
    assert (files(node.state_directory) != before) == gone


def test_without_a_terminal_it_wants_to_be_told(node: config.NodeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", node.source, "zeroize"]) == 1
    assert "--yes says that you mean it" in capsys.readouterr().err


def test_what_cannot_be_destroyed_is_named_and_the_rest_goes(
    node: config.NodeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = node.link_state("odd") / "blocks" / "directory"
    odd.mkdir(parents=True)
    assert main(["--config", node.source, "zeroize", "--yes"]) == 1
    assert f"could not be destroyed: {odd.parent.parent}" in capsys.readouterr().out
    assert not list(node.link_state("paris").glob("blocks/*"))


def test_a_plain_disk_is_not_taken_for_an_encrypted_one(tmp_path: Path) -> None:
    assert zeroize.encrypted_disk(tmp_path) is None
    assert zeroize.encrypted_disk(Path("/proc")) is None
