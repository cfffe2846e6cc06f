"""qbb zeroize on a real store's files: nothing of the key is left, and nothing goes while a unit runs."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from appliance import config
from appliance.cli import doomed, zeroize
from appliance.cli.main import main
from appliance.native import linksecret
from appliance.services.linkstore import LinkStore, secret_id
from appliance.services.loadedsecrets import FILE_NAME
from tests.unit.cli.cli_world import CONFIGURATION, Units


@pytest.fixture(autouse=True)
def credstores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Never those of this machine. Returns the first of two."""
    stored = tmp_path / "credstore.encrypted"
    stored.mkdir()
    monkeypatch.setattr(doomed, "CREDSTORES", (stored, tmp_path / "none"))
    monkeypatch.setattr(doomed, "MACHINES_OWN", tmp_path / "etc" / "node.toml")
    return stored


def become_the_machines_own(node: config.NodeConfig, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node file that the machine's units go by. Where nothing else is known, the node's directories hold."""
    monkeypatch.setattr(doomed, "MACHINES_OWN", Path(node.source))
    monkeypatch.setattr(doomed, "STATE", node.state_directory)
    monkeypatch.setattr(doomed, "RUNTIME", node.runtime_directory)
    return Path(node.source)


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
    assert files(node.state_directory) == ["dataplane/paris/burnt", f"dataplane/{FILE_NAME}", "keys/audit.log"]
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
    assert f"{named} paris\n" in (node.link_state("paris").parent / FILE_NAME).read_text()
    assert fill(node, copy) == 0


def test_a_secret_that_was_never_loaded_is_not_loaded_from_a_copy(node: config.NodeConfig, tmp_path: Path) -> None:
    secret, copy = tmp_path / "paris.secret", tmp_path / "copy.secret"
    secret.unlink()
    linksecret.make(secret, 4096)
    copy.write_bytes(secret.read_bytes())
    copy.chmod(0o600)
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    assert fill(node, copy) == 0


def test_secrets_stored_as_credentials_go_too(node: config.NodeConfig, credstores: Path) -> None:
    (credstores / "qbb.link.rome").write_bytes(b"encrypted")
    (credstores / "qbb.link.oslo").write_bytes(b"of another node on this machine, as of a lab beside a node")
    (credstores / "other").write_bytes(b"not ours")
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    assert files(credstores) == ["other", "qbb.link.oslo"]


def test_those_of_removed_and_renamed_links_and_half_taken_in_ones_go_too(
    node: config.NodeConfig, credstores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_the_machines_own(node, monkeypatch)
    for name in ("qbb.link.removed", "qbb.link.rome", "qbb.link.rome.new", "other"):
        (credstores / name).write_bytes(b"secret")
    odd = credstores / "qbb.link.an odd\nname"
    linksecret.make(odd, 4096)
    held = (credstores / "qbb.link.removed").open("rb")
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    assert files(credstores) == ["other"]
    with held:
        assert held.read() == bytes(6), "overwritten before it was removed"
    record = (node.state_directory / "dataplane" / FILE_NAME).read_text().splitlines()
    assert sorted(line.split()[1:] for line in record) == [["-"], ["paris"]]


# --- a node file that is of no use -----------------------------------------------------------------------------------


def test_a_node_file_that_is_wrong_is_no_hindrance(
    node: config.NodeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What can be read of it counts: here names, directories and the file of a secret."""
    path = become_the_machines_own(node, monkeypatch)
    monkeypatch.setattr(doomed, "STATE", tmp_path / "elsewhere")
    path.write_text(path.read_text().replace('listen = "192.0.2.1:7302"', "listen = 7302"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: "alice")
    assert main(["--config", node.source, "zeroize"]) == 0
    said = capsys.readouterr().out
    assert "The node file cannot be used: " in said and 'link "rome".listen' in said
    assert f"the key stores in {node.state_directory}/dataplane" in said
    assert files(node.state_directory) == ["dataplane/paris/burnt", f"dataplane/{FILE_NAME}"]
    assert not (tmp_path / "paris.secret").exists()


@pytest.mark.parametrize("text", ["no TOML", None, 'node = 3\nlink = [4, {secret = 5}, {secret = "here"}]'])
@pytest.mark.parametrize("typed", ["there", "alice"])
def test_without_any_name_the_machines_is_asked_for(
    node: config.NodeConfig, credstores: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, typed: str
) -> None:
    path = become_the_machines_own(node, monkeypatch)
    path.unlink() if text is None else path.write_text(text)
    (credstores / "qbb.link.rome").write_bytes(b"secret")
    monkeypatch.setattr(socket, "gethostname", lambda: "there")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: typed)
    assert main(["--config", node.source, "zeroize"]) == (0 if typed == "there" else 1)
    assert bool(files(credstores)) == (typed != "there")
    assert bool(list(node.link_state("paris").glob("blocks/*.key"))) == (typed != "there")


def test_another_node_file_must_load(
    node: config.NodeConfig, tmp_path: Path, credstores: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody destroys the machine's node by mistyping the name of another one's file."""
    (credstores / "qbb.link.rome").write_bytes(b"secret")
    assert main(["--config", str(tmp_path / "mistyped.toml"), "zeroize", "--yes"]) == 1
    assert "mistyped.toml" in capsys.readouterr().err
    assert files(credstores) == ["qbb.link.rome"]


def test_a_running_unit_stops_it_without_a_node_file_too(
    units: Units, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doomed, "MACHINES_OWN", units.config)
    monkeypatch.setattr(doomed, "RUNTIME", units.directory)
    units.config.write_text("no TOML")
    assert main(["--config", str(units.config), "zeroize", "--yes"]) == 1
    assert "qbb-dataplane runs: nothing was destroyed" in capsys.readouterr().err


# --- what it says and asks -------------------------------------------------------------------------------------------


def test_a_running_unit_stops_it(units: Units, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(units.config), "zeroize", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "qbb-dataplane runs: nothing was destroyed" in told
    assert "systemctl stop qbb.target" in told


def test_a_data_plane_that_does_not_answer_but_has_its_store_open_stops_it(
    node: config.NodeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(tmp_path)
    store = LinkStore(node.link_state("paris"))
    assert main(["--config", node.source, "zeroize", "--yes"]) == 1
    store.close()
    told = capsys.readouterr().err
    assert "a data plane still runs" in told and "nothing was destroyed" in told
    assert files(tmp_path) == before


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


def test_a_damaged_record_of_loaded_secrets_is_no_hindrance(
    node: config.NodeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (node.state_directory / "dataplane" / FILE_NAME).write_text("nonsense\n")
    assert main(["--config", node.source, "zeroize", "--yes"]) == 1
    assert "record of link secrets that were loaded is damaged" in capsys.readouterr().out
    assert files(node.state_directory) == [f"dataplane/{FILE_NAME}"]
    assert not (tmp_path / "paris.secret").exists()


@pytest.mark.parametrize("appliance", [True, False])
def test_it_says_how_the_encrypted_disk_is_erased(
    node: config.NodeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    appliance: bool,
) -> None:
    partition = tmp_path / "qbb-var"
    if appliance:
        partition.touch()
    monkeypatch.setattr(zeroize, "APPLIANCE_VAR", partition)
    monkeypatch.setattr(zeroize, "encrypted_disk", lambda directory: "var")
    assert main(["--config", node.source, "zeroize", "--yes"]) == 0
    said = capsys.readouterr().out.replace("\n", " ")
    assert (f"`cryptsetup erase {partition}`" if appliance else "`cryptsetup erase` on the device under var") in said
