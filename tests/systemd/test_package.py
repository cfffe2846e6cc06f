"""The package on a machine: installed without a node file, upgraded while it runs, removed, purged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab import Run, until

from .machine import Machine
from .package import with_version
from .pair import node_file, quiet

LIMIT_S = 240.0
NODE_FILE = "/etc/qbb/node.toml"


@pytest.fixture(scope="module")
def installed(debian: Path, package: Path) -> Iterator[tuple[Machine, str]]:
    """A machine with the package installed, and no node file; and what the installation said."""
    with Run() as run:
        made = Machine(run, "alone", debian)
        quiet(made)
        made.start()
        made.path("/root/qbb.deb").write_bytes(package.read_bytes())
        yield made, made.run("dpkg", "-i", "/root/qbb.deb")


def test_the_same_source_gives_the_same_package(package: Path, tmp_path: Path) -> None:
    one, other = with_version("9.9", tmp_path / "one"), with_version("9.9", tmp_path / "other")
    assert hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def test_the_life_of_a_package(installed: tuple[Machine, str], tmp_path: Path) -> None:
    """From the installation to the purge, on one machine."""
    machine, told = installed
    everything_is_there(machine)
    nothing_starts_without_a_node_file(machine, told)
    a_wrong_node_file_is_told_of_and_taken_up_when_it_is_mended(machine)
    a_wrong_secret_is_told_of_and_taken_up_when_it_is_mended(machine)
    an_upgrade_keeps_the_store_and_runs_the_new_version(machine, tmp_path)
    removing_stops_everything_and_purging_leaves_the_key_store(machine)


def until_told(machine: Machine, unit: str, words: str) -> None:
    """What a unit says is in the journal a moment later."""

    def told() -> str:
        return machine.journal("-u", f"{unit}.service")

    until(lambda: words in told(), lambda: f"{words}: {told()}", LIMIT_S)


def nothing_starts_without_a_node_file(machine: Machine, told: str) -> None:
    assert "write /etc/qbb/node.toml" in told
    machine.run("systemctl", "start", "qbb.target")
    for unit in ("qbb-dataplane", "qbb-keys", "qbb-monitor"):
        assert not machine.active(f"{unit}.service")
        until_told(machine, unit, f"unmet condition check ConditionPathExists={NODE_FILE}")
    until_told(machine, "qbb-check", f"{NODE_FILE}: cannot be read: No such file or directory")
    until_told(machine, "qbb-check", "man qbb-node.toml")


def everything_is_there(machine: Machine) -> None:
    listed = machine.run("dpkg-deb", "--contents", "/root/qbb.deb")
    for path in ("usr/bin/qbb", "usr/share/man/man1/qbb.1.gz", "usr/share/man/man5/qbb-node.toml.5.gz",
                 "usr/share/man/man7/qbb-units.7.gz", "usr/share/doc/qbb/copyright",
                 "usr/share/doc/qbb/examples/square.toml", "usr/lib/systemd/catalog/qbb.catalog"):  # fmt: skip
        assert f" ./{path}\n" in listed, path
    assert "probe" not in listed and "__pycache__" not in listed
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())
    assert "usage: qbb" in machine.run("qbb", "--help")
    assert "enabled" in machine.run("systemctl", "is-enabled", "qbb.target")
    verified = machine.run("dpkg", "--verify", "qbb").splitlines()
    assert [line for line in verified if "/usr/share/doc/" not in line] == []  # which the tree does without
    assert machine.run("systemctl", "list-units", "--failed", "--no-legend") == ""


def a_wrong_node_file_is_told_of_and_taken_up_when_it_is_mended(machine: Machine) -> None:
    good = node_file("paris").replace("10.77.0.1:7301", "127.0.0.1:7301")
    machine.run("qbb", "link", "secret", "--out", "/etc/credstore/qbb.link.vienna")
    machine.path(NODE_FILE).write_text(good.replace("keepalive_s", "kepalive_s"))
    machine.run("systemctl", "start", "qbb.target")
    until_told(machine, "qbb-check", "did you mean keepalive_s?")
    until_told(machine, "qbb-dataplane", "did you mean keepalive_s?")
    line = 1 + good.splitlines().index(next(one for one in good.splitlines() if one.startswith("keepalive_s")))
    until_told(machine, "qbb-check", f"{NODE_FILE}:{line}: ")
    entry = machine.entries("QBB_EVENT=configuration-refused", "-n", "1")[0]
    assert entry["MESSAGE_ID"] == "38dda0fc4e0158679f2e6b6def250789"
    assert "The configuration is wrong" in machine.journal("-x", "QBB_EVENT=configuration-refused", "-n", "1")
    machine.path(NODE_FILE).write_text(good)
    for unit in ("qbb-dataplane", "qbb-keys", "qbb-monitor", "qbb-routing"):
        until(
            lambda u=unit: machine.active(f"{u}.service"),
            lambda u=unit: machine.journal("-u", f"{u}.service"),
            LIMIT_S,
        )


def an_upgrade_keeps_the_store_and_runs_the_new_version(machine: Machine, tmp_path: Path) -> None:
    store = sorted(str(path) for path in machine.path("/var/lib/qbb/dataplane/vienna/blocks").iterdir())
    assert store
    before = machine.main_pid("qbb-dataplane.service")
    machine.path("/root/new.deb").write_bytes(with_version("0.1.1", tmp_path).read_bytes())
    machine.run("dpkg", "-i", "/root/new.deb")
    assert "0.1.1" in machine.run("dpkg-query", "-W", "qbb")
    for unit in ("qbb-dataplane", "qbb-keys", "qbb-monitor"):
        until(lambda u=unit: machine.active(f"{u}.service"), f"{unit} runs again", LIMIT_S)
    assert machine.main_pid("qbb-dataplane.service") != before
    assert sorted(str(path) for path in machine.path("/var/lib/qbb/dataplane/vienna/blocks").iterdir()) == store


def a_wrong_secret_is_told_of_and_taken_up_when_it_is_mended(machine: Machine) -> None:
    stored = machine.path("/etc/credstore/qbb.link.vienna")
    whole = stored.read_bytes()
    for spoilt, words in ((whole[:-8], "it is damaged, or no link secret"), (b"", "it is damaged, or no link secret"),
                          (None, "has no secret: put it into /etc/credstore/qbb.link.vienna")):  # fmt: skip
        if spoilt is None:
            stored.unlink()
        else:
            stored.write_bytes(spoilt)
        cursor = machine.cursor()
        machine.try_run("systemctl", "restart", "qbb-dataplane.service")
        until(lambda c=cursor, w=words: w in machine.journal("-u", "qbb-dataplane.service", f"--after-cursor={c}"),
              lambda w=words, c=cursor: w + machine.journal(f"--after-cursor={c}"), LIMIT_S)  # fmt: skip
    stored.write_bytes(whole)
    stored.chmod(0o600)
    until(lambda: machine.active("qbb-dataplane.service"), "the data plane recovers by itself", LIMIT_S)


def removing_stops_everything_and_purging_leaves_the_key_store(machine: Machine) -> None:
    machine.run("dpkg", "-r", "qbb")
    assert machine.run("systemctl", "list-units", "qbb*", "--no-legend", "--state=active") == ""
    assert not machine.path("/usr/bin/qbb").exists()
    purged = machine.try_run("dpkg", "-P", "qbb")
    assert purged.returncode == 0
    assert "key stores in /var/lib/qbb" in purged.stderr and "qbb zeroize" in purged.stderr
    assert list(machine.path("/var/lib/qbb/dataplane/vienna/blocks").iterdir())
    assert machine.run("systemctl", "list-units", "--failed", "--no-legend") == ""
