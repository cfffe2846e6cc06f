"""The words on the screen: what people and programs get from qbb."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import appliance
from appliance.cli.main import main
from appliance.native import ffi, linksecret
from tests.unit.cli.cli_world import CONFIGURATION, DATAPLANE, DEVICE, SESSION, Units

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def qbb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*words: object) -> tuple[int, str, str]:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def words(line: str) -> str:
    return " ".join(line.split())


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.strip()]


def test_routes_show_every_way_and_what_it_is_used_for(units: Units, qbb: Run) -> None:
    code, out, err = qbb("--config", units.config, "routes")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "What finds all its links overloaded is dropped."
    assert rows(out)[1:-1] == [
        ["1.1.0.1/32", "here", "-", "-", "-", "-"],
        ["1.1.0.9/32", "rome", "6", "best", "25.0", "%", "quarantine"],
        ["-", "paris", "10", "alternate", "25.0", "%", "up"],
        ["-", "oslo", "30", "never", "-", "-"],
    ]


def test_network_shows_every_link_and_its_use(units: Units, qbb: Run) -> None:
    code, out, _ = qbb("--config", units.config, "network")
    assert code == 0
    table = rows(out)
    assert table[1][0] == "1.1.0.0/30" and table[1][-1] == "local"
    assert [(row[0], row[-3], row[-2], row[-1]) for row in table[2:5]] == [
        ("1.2.0.0/16", "1.1.0.5", "7", "best"),
        ("1.2.0.0/16", "1.1.0.9", "9", "alternate"),
        ("1.2.0.0/16", "1.1.0.13", "30", "-"),
    ]
    assert "best paths only" in out and "no neighbour on link paris" in out
    nodes = rows(qbb("--config", units.config, "network", "--nodes")[1])
    assert [row[0] for row in nodes if row not in table] == ["1.1.0.5"]
    assert json.loads(qbb("--config", units.config, "network", "--json")[1])["hold"] is True


def test_registrations_for_people(units: Units, qbb: Run) -> None:
    code, out, _ = qbb("--config", units.config, "registrations")
    assert code == 0
    assert rows(out)[1:] == [
        ["vpn", "1.1.0.5", "500", "esp", "-", "unreachable"],
        ["web", "1.2.0.1", "443", "tls", "192.0.2.7", "7"],
    ]
    assert len(json.loads(qbb("--config", units.config, "registrations", "--json")[1])["registrations"]) == 2


def test_a_key_is_asked_for_by_name_or_by_address(units: Units, qbb: Run) -> None:
    for words in ((), ("--name", "web", "--to", "1.1.0.5"), ("--to", "1.1.0.5"), ("--port", "5")):
        code, _, err = qbb("--config", units.config, "key", *words)
        assert code == 1 and "Give --name, or --to and --port" in err
    code, _, err = qbb("--config", units.config, "key", "--to", "1.1.0.5", "--port", "70000")
    assert code == 1 and "port 70000: a port is 1 to 65535" in err


def test_links_for_people(units: Units, qbb: Run) -> None:
    code, out, err = qbb("--config", units.config, "links")
    assert (code, err) == (0, "")
    heading, paris, rome, why = out.splitlines()
    assert heading.split() == [
        "LINK",
        "PEER",
        "STATE",
        "STORE",
        "STORED",
        "KEY",
        "RATE",
        "LOAD",
        "CRITICAL",
        "QUEUED",
        "DELIVERED",
        "ALARMS",
    ]
    assert paris.split() == [
        "paris",
        "1.1.0.5",
        "up",
        "ready",
        "3.0",
        "MiB",
        "12.3",
        "kbit/s",
        "25.0",
        "%",
        "90.0",
        "%",
        "2",
        "640",
        "B",
        "-",
    ]
    assert "quarantine" in rome
    assert why == "rome: the logs contradict each other"
    assert "\x1b" not in out


def test_answers_for_programs(units: Units, qbb: Run) -> None:
    assert json.loads(qbb("--config", units.config, "--json", "links")[1]) == DATAPLANE["links"]
    assert json.loads(qbb("links", "--json", "--config", units.config)[1]) == DATAPLANE["links"]
    assert json.loads(qbb("--config", units.config, "sessions", "--json")[1]) == [SESSION]
    assert json.loads(qbb("--config", units.config, "device", "paris-1", "--json")[1]) == DEVICE
    status = json.loads(qbb("--config", units.config, "status", "--json")[1])
    assert status["units"]["dataplane"] == DATAPLANE
    assert status["silent"] == {}


def test_a_narrow_screen_loses_columns_not_values(units: Units, qbb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "46")
    out = qbb("--config", units.config, "links")[1]
    assert rows(out)[0] == ["LINK", "STATE", "STORE", "STORED"]
    assert all(len(line) <= 46 for line in out.splitlines())
    monkeypatch.setenv("COLUMNS", "10")
    assert rows(qbb("--config", units.config, "links")[1])[0] == ["LINK", "STATE", "STORE"]


def test_status_shows_all_units(units: Units, qbb: Run) -> None:
    code, out, _ = qbb("--config", units.config, "status")
    assert code == 0
    assert "alice, 1.1.0.1" in out
    assert "up 2 h 5 min, keys in memfd_secret, tags by vpclmul" in out
    assert "5 of 4096 places taken, source kernel" in out
    assert "1 of 1 links adjacent, 3 routes, 2 applications registered in the network" in out
    assert "OSPF finds no neighbour on link paris" in out
    assert rows(out)[-1][:5] == ["paris-1", "paris", "exchanging", "15.1", "%"]


def test_status_without_units_says_what_to_do(tmp_path: Path, qbb: Run) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIGURATION.format(run=tmp_path))
    code, out, _ = qbb("--config", config, "status")
    assert code == 1
    for unit in ("qbb-dataplane", "qbb-keys", "qbb-routing", "qbb-device@paris-1"):
        assert f"{unit} does not answer at {tmp_path}/" in out
        assert f"Try: systemctl status {unit}" in out
    code, out, err = qbb("--config", config, "links")
    assert (code, out) == (1, "")
    assert err == (
        f"qbb: qbb-dataplane does not answer at {tmp_path}/dataplane.control (No such file or directory): "
        "is it running?\n     systemctl status qbb-dataplane\n"
    )


def test_store_sessions_and_devices(units: Units, qbb: Run) -> None:
    store = rows(qbb("--config", units.config, "store")[1])
    assert " ".join(store[0]) == "LINK STORE STORED PICKUP COMMON OUT IN SPENT RECORDS EPOCH"
    expected = "paris ready 3.0 MiB 4.0 KiB 2.0 MiB 64.0 KiB 63.5 KiB 15.0 KiB 77 70"
    assert " ".join(store[1]) == expected
    sessions = rows(qbb("--config", units.config, "sessions")[1])
    assert " ".join(sessions[1]) == "7000 1.1.0.5 7001 open 12 12 2 3 charon"
    devices = rows(qbb("--config", units.config, "device")[1])
    assert devices[1][:4] == ["paris-1", "paris", "exchanging", "15.1"]
    one = qbb("--config", units.config, "device", "paris-1")[1]
    assert [words(line) for line in one.splitlines()][:9] == [
        "name paris-1",
        "link paris",
        "kind simulated",
        "fibre unix:/run/fibre",
        "state exchanging",
        "distance 25 km",
        "qber 15.1 %",
        "rate 0 bit/s",
        "alarms qber",
    ]
    code, _, err = qbb("--config", units.config, "device", "oslo-1")
    assert (code, err) == (1, "qbb: there is no device oslo-1\n     devices are paris-1\n")


def test_link_show(units: Units, qbb: Run) -> None:
    out = qbb("--config", units.config, "link", "show", "paris")[1]
    assert "device paris-1  connected, QBER 3.3 %, 1.2 kbit/s" in out
    assert "pad       10.0 KiB" in out
    assert "duplicate  3" in out
    assert "25.0 % of 20.0 kbit/s" in out and "90.0 %, w 20.0" in out and "2 packets, mark 768" in out
    assert "lost" not in out
    assert "links are paris, rome" in qbb("--config", units.config, "link", "show", "oslo")[2]


def test_discard_asks_first_and_only_for_a_quarantined_store(units: Units, qbb: Run) -> None:
    code, _, err = qbb("--config", units.config, "link", "discard", "paris", "--yes")
    assert (code, "is not quarantined: nothing was discarded" in err) == (1, True)
    code, _, err = qbb("--config", units.config, "link", "discard", "rome")
    assert (code, "nobody is at the terminal" in err) == (1, True)
    assert units.discarded == []
    code, out, _ = qbb("--config", units.config, "link", "discard", "rome", "--yes")
    assert (code, out) == (0, "Link rome: 3.0 MiB of key wiped. Discard it at the peer too.\n")
    assert units.discarded == ["rome"]


def test_discard_takes_the_links_name_for_a_yes(units: Units, qbb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda prompt: "yes")
    assert qbb("--config", units.config, "link", "discard", "rome")[0] == 1
    assert units.discarded == []
    monkeypatch.setattr("builtins.input", lambda prompt: "rome")
    assert qbb("--config", units.config, "link", "discard", "rome")[0] == 0
    assert units.discarded == ["rome"]


def run_qbb(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(appliance.__file__).parents[1])}
    command = [sys.executable, "-m", "appliance.cli.main", *(str(word) for word in words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_link_secret_makes_a_private_file_and_prints_nothing_of_it(tmp_path: Path) -> None:
    secret = tmp_path / "paris.secret"
    run = run_qbb("link", "secret", "--out", secret)
    assert run.returncode == 0
    assert secret.stat().st_mode & 0o777 == 0o600
    content = secret.read_bytes()
    assert content.startswith(b"QBBLINK\n")
    assert len(content) == 56 + 32 + 8192
    assert "no backup" in run.stdout
    assert content[56:].hex()[:16] not in run.stdout
    again = run_qbb("link", "secret", "--out", secret)
    assert again.returncode == 1
    assert "a link secret is never overwritten" in again.stderr
    assert secret.read_bytes() == content


@pytest.mark.parametrize(("count", "code"), [(4096, 0), (4095, 1), (4100, 1), (0, 1), (1 << 20, 0), ((1 << 20) + 8, 1)])
def test_the_size_of_a_secret(tmp_path: Path, count: int, code: int) -> None:
    run = run_qbb("link", "secret", "--out", tmp_path / "s", "--bytes", count)
    assert run.returncode == code
    assert (tmp_path / "s").exists() is (code == 0)
    if code:
        assert "4096 to 1048576 bytes, a multiple of 8" in run.stderr


def test_a_secret_is_read_back_and_damage_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "s"
    linksecret.make(path, 4096)
    content = path.read_bytes()
    key, block, length = linksecret.read(path)
    assert length == 4096
    assert bytes(ffi.buffer(key.at(0), 32)) == content[56:88]
    assert bytes(ffi.buffer(block.at(0), length)) == content[88:]
    key.close()
    block.close()
    for damaged in (content[:-1], content + b"\0", b"", *(flipped(content, at) for at in (0, 11, 20, 30, 60, 4000))):
        path.write_bytes(damaged)
        with pytest.raises(OSError, match="damaged, or no link secret"):
            linksecret.read(path)
    path.write_bytes(content)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="has mode 0600"):
        linksecret.read(path)


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_check_reports_problems_and_prints_what_holds(tmp_path: Path, qbb: Run) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIGURATION.format(run=tmp_path))
    code, out, _ = qbb("check", config)
    assert (code, out) == (0, f"{config}: node alice, 2 links. No problems.\n")
    code, printed, _ = qbb("check", config, "--print")
    config.write_text(printed)
    assert qbb("check", config, "--print") == (0, printed, "")
    config.write_text(printed.replace('address = "1.1.0.1"', 'adress = "1.1.0.1"'))
    code, out, _ = qbb("check", config)
    assert code == 1
    assert f"{config}:3: node.adress: is not known; did you mean address?" in out
    assert out.endswith("2 problems.\n")
    told = json.loads(qbb("check", config, "--json")[1])
    assert [problem["place"] for problem in told["problems"]] == ["node.address", "node.adress"]


def test_check_looks_at_secret_files(tmp_path: Path, qbb: Run) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIGURATION.format(run=tmp_path).replace("[[link]]", f'[[link]]\nsecret = "{tmp_path}/s"', 1))
    assert "does not exist; make it by qbb link secret" in qbb("check", config)[1]
    assert qbb("check", config, "--no-files")[0] == 0


def test_a_wrong_configuration_is_told_by_every_command(tmp_path: Path, qbb: Run) -> None:
    code, _, err = qbb("--config", tmp_path / "none.toml", "links")
    assert code == 1
    assert "none.toml: cannot be read: No such file or directory" in err


def test_help_names_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for command in ("status", "links", "store", "sessions", "device", "key", "link", "check"):
        assert f"    {command} " in out


def key_words(units: Units, *more: object) -> tuple[object, ...]:
    return ("--config", units.config, "key", "--to", "1.1.0.5", "--port", "7000", *more)


def test_a_key_needs_a_sensible_length(units: Units, qbb: Run) -> None:
    assert "100 bits: a key has 64 to 8192 bits, a multiple of 8" in qbb(*key_words(units, "--bits", "100"))[2]


def test_a_key_needs_the_keys_service(units: Units, qbb: Run) -> None:
    code, out, err = qbb(*key_words(units))
    assert (code, out) == (1, "")
    assert f"qbb-keys does not answer at {units.directory}/pfkey.sock (No such file or directory)" in err


def test_a_keys_service_that_ends_the_connection_is_named(units: Units, qbb: Run) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(units.directory / "pfkey.sock"))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        code, _, err = qbb(*key_words(units))
        thread.join()
    assert code == 1
    assert "qbb: qbb-keys: the keys service ended the connection\n" in err


def test_a_reader_that_goes_away_is_no_error(units: Units) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(appliance.__file__).parents[1])}
    shell = f"{sys.executable} -m appliance.cli.main --config {units.config} --json status | true"
    run = subprocess.run(
        ["bash", "-c", shell], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stderr == ""
