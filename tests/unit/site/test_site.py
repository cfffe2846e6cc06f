"""What follows from the table [site]: files for networkd and timesyncd, the firewall's rules, what is taken in."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
from pathlib import Path
from typing import BinaryIO

import pytest

from appliance import config
from appliance.config import NodeConfig
from appliance.native import linksecret
from appliance.services import site
from appliance.site import cards, firewall, network
from appliance.site import report as reports
from appliance.site.identity import Identity, identity
from appliance.site.intake import (
    LONGEST_BYTES,
    Kept,
    bring,
    clear_up,
    missing_secrets,
    standing,
    take_credential,
    take_in,
)
from appliance.site.report import Report
from appliance.site.warrant import Warrant, how_to_sign

TEXT = """
[node]
name = "paris"
address = "1.1.1.1"

[[link]]
name = "vienna"
peer = "1.1.1.2"
listen = "192.0.2.1:7301"
remote = "192.0.2.2:7301"

[[link]]
name = "rome"
peer = "1.1.1.3"
listen = "0.0.0.0:7302"
remote = "rome.example.org:7302"
channel = "tcp"

[site]
machine = "AB-12"
ssh_keys = ["ssh-ed25519 AAAAC3Nz anna"]
time_servers = ["192.0.2.123"]
let_in = ["esp", "udp/500", "icmp"]

[[site.interface]]
name = "uplink"
mac = "52:54:00:12:34:56"
addresses = ["192.0.2.1/24"]
gateway = "192.0.2.254"
dns = ["192.0.2.53"]

[[site.interface]]
name = "lan"
device = "enp2s0"
dhcp = true
"""
HERE = Identity("4c4c4544-0042", "ab-12")


@pytest.fixture
def node() -> NodeConfig:
    return config.parse(TEXT)


def test_an_interface_is_found_by_address_or_name(node: NodeConfig) -> None:
    files = network.files(node.site)
    assert sorted(files) == ["50-lan.network", "50-uplink.network"]
    uplink = files["50-uplink.network"].splitlines()
    assert {"MACAddress=52:54:00:12:34:56", "DHCP=no", "Address=192.0.2.1/24", "Gateway=192.0.2.254"} <= set(uplink)
    assert {"Name=enp2s0", "DHCP=yes"} <= set(files["50-lan.network"].splitlines())
    assert "NTP=192.0.2.123\n" in network.time(node.site)


def test_name_servers_are_those_of_the_node_file_else_those_of_dhcp(node: NodeConfig) -> None:
    uplink, lan = node.site.interfaces
    assert "DNS=192.0.2.53" in network.network(uplink).splitlines()
    assert "DNS" not in network.network(lan)
    both = network.network(dataclasses.replace(lan, dns=uplink.dns)).splitlines()
    assert both.index("DNS=192.0.2.53") < both.index("[DHCPv4]")
    assert both.count("UseDNS=no") == 3


def test_only_what_is_named_comes_in(node: NodeConfig) -> None:
    rules = firewall.rules(node)
    assert 'ip saddr 192.0.2.2 udp dport 7301 accept comment "link vienna"' in rules
    assert 'tcp dport 7302 accept comment "link rome"' in rules
    assert "ip saddr rome" not in rules  # nobody asks a name server for a rule
    for line in (
        firewall.SSH,
        *firewall.DHCP,
        "meta l4proto esp accept",
        "udp dport 500 accept",
        "{ icmp, icmpv6 } accept",
    ):
        assert line in rules
    bare = firewall.rules(None)
    assert "policy drop" in bare
    assert "dport" not in bare
    assert "mld-listener-query accept" in bare
    still = dataclasses.replace(node, site=dataclasses.replace(node.site, interfaces=node.site.interfaces[:1]))
    assert not any(line in firewall.rules(still) for line in firewall.DHCP)


def test_rules_that_nft_refuses_leave_those_without_a_node_file(
    node: NodeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def nft(*words: str, text: str) -> None:
        if "dport" in text:
            raise subprocess.CalledProcessError(1, words, stderr="syntax error\n")
        loaded.append(text)

    monkeypatch.setattr(site, "_run", nft)
    with pytest.raises(OSError, match=r"nothing that the node file lets in comes in, .*: syntax error$"):
        site._firewall(node)
    assert loaded == [firewall.rules(None)]


def test_the_firmware_tells_which_machine_it_is(tmp_path: Path) -> None:
    (tmp_path / "product_uuid").write_text("4C4C4544-0042\n")
    found = identity(tmp_path)
    assert found == Identity("4C4C4544-0042", "")
    assert found.is_called("4c4c4544-0042")
    assert not found.is_called("")


class Intake:
    def __init__(self, folder: Path) -> None:
        self.offered, self.kept = folder / "offered", Kept(folder / "kept")
        self.offered.mkdir()

    def take(self, machine: Identity = HERE, proved: bool = True) -> tuple[NodeConfig | None, list[str]]:
        report = Report()
        taken = take_in(self.offered, self.kept, machine, report, Warrant(proved=proved))
        return taken, [trouble.what for trouble in report.troubles]

    def credential(self) -> NodeConfig | None:
        return take_credential(self.offered, self.kept, HERE, Report())


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path)


def test_a_good_node_file_is_kept(intake: Intake) -> None:
    (intake.offered / "qbb.node").write_text(TEXT)
    taken, troubles = intake.take()
    assert taken is not None
    assert (taken.name, troubles) == ("paris", [])
    assert intake.kept.node.read_text() == TEXT
    assert standing(intake.kept, HERE, Report()) is not None


@pytest.mark.parametrize(
    ("text", "machine", "words"),
    [
        (TEXT.replace('"192.0.2.1:7301"', "7301"), HERE, 'link "vienna".listen'),
        ("no TOML", HERE, "not TOML"),
        (TEXT, Identity("4c4c4544-0043", "AB-13"), "is for another machine, AB-12; this one is 4c4c4544-0043"),
        ("#" * (1 << 20) + TEXT, HERE, "longer than a node file can be"),
    ],
)
def test_a_wrong_one_never_replaces_a_good_one(intake: Intake, text: str, machine: Identity, words: str) -> None:
    (intake.offered / "node.toml").write_text(TEXT)
    intake.take()
    (intake.offered / "node.toml").write_text(text)
    taken, troubles = intake.take(machine)
    assert taken is None
    assert words in troubles[0]
    assert intake.kept.node.read_text() == TEXT


def test_what_is_kept_is_replaced_only_by_who_may(intake: Intake) -> None:
    (intake.offered / "node.toml").write_text(TEXT)
    linksecret.make(intake.offered / "qbb.link.vienna", 4096)
    assert intake.take(proved=False)[1] == [], "where nothing is kept, anybody may"
    secret = (intake.kept.secrets / "qbb.link.vienna").read_bytes()
    assert intake.take(proved=False)[1] == [], "the same again replaces nothing"
    (intake.offered / "node.toml").write_text(TEXT.replace("paris", "mallory"))
    (intake.offered / "qbb.link.vienna").unlink()
    linksecret.make(intake.offered / "qbb.link.vienna", 4096)
    linksecret.make(intake.offered / "qbb.link.rome", 4096)
    taken, troubles = intake.take(proved=False)
    assert taken is None
    assert [what.split()[0] for what in troubles] == ["qbb.link.vienna", "node.toml"]
    assert intake.kept.node.read_text() == TEXT
    assert (intake.kept.secrets / "qbb.link.vienna").read_bytes() == secret
    assert (intake.kept.secrets / "qbb.link.rome").exists(), "one that was missing"
    taken, troubles = intake.take(proved=True)
    assert taken is not None and taken.name == "mallory" and troubles == []


def test_only_what_is_new_is_a_change(intake: Intake) -> None:
    (intake.offered / "node.toml").write_text(TEXT)
    changes = []
    for _ in range(2):
        report = Report()
        take_in(intake.offered, intake.kept, HERE, report, Warrant())
        changes.append(report.changed)
    assert changes == [True, False]


def test_a_credential_is_taken_once(intake: Intake) -> None:
    (intake.offered / "qbb.node").write_text(TEXT)
    assert intake.credential() is not None
    edited = TEXT.replace("paris", "lyon")
    intake.kept.node.write_text(edited)
    assert intake.credential() is None
    assert intake.kept.node.read_text() == edited
    (intake.offered / "qbb.node").write_text(TEXT.replace("paris", "nice"))
    taken = intake.credential()
    assert taken is not None and taken.name == "nice"
    assert intake.credential() is None
    intake.kept.node.unlink()
    assert intake.credential() is not None


def test_a_credential_that_could_not_be_kept_is_taken_later(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    (intake.offered / "qbb.node").write_text(TEXT.replace("paris", "nice"))
    intake.kept.node.parent.mkdir(parents=True)
    intake.kept.node.write_text(TEXT)
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", full_disk)
        assert intake.credential() is not None
        assert intake.kept.node.read_text() == TEXT
    taken = intake.credential()
    assert taken is not None and taken.name == "nice" and "nice" in intake.kept.node.read_text()


def full_disk(fd: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Administrator:
    def __init__(self, folder: Path) -> None:
        self._key = folder / "anna"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", self._key], check=True)
        self.warrant = Warrant((self._key.with_suffix(".pub").read_text().strip(),))

    def sign(self, path: Path) -> None:
        path.with_name(path.name + ".sig").unlink(missing_ok=True)
        words = how_to_sign(path.name).replace("KEY", str(self._key)).split()
        subprocess.run(words, cwd=path.parent, check=True, capture_output=True)


def test_what_an_administrator_signed_is_taken_once_and_for_this_machine(intake: Intake, tmp_path: Path) -> None:
    administrator = Administrator(tmp_path)

    def offer(text: str) -> list[str]:
        path = intake.offered / "node.toml"
        path.write_text(text)
        administrator.sign(path)
        report = Report()
        take_in(intake.offered, intake.kept, HERE, report, administrator.warrant)
        return [trouble.what for trouble in report.troubles]

    first, second = TEXT, TEXT.replace("paris", "lyon")
    assert offer(first) == [] and offer(second) == []
    assert "replaced since" in offer(first)[0]
    anybodys = second.replace('machine = "AB-12"\n', "").replace("lyon", "nice")
    assert "must say which machine" in offer(anybodys)[0]
    assert intake.kept.node.read_text() == second
    assert offer(second) == [], "a stick that stays plugged in"


def test_a_stick_with_nothing_on_it_is_told(intake: Intake, tmp_path: Path) -> None:
    report = Report()
    (intake.offered / "paris.toml").write_text(TEXT)
    folder = tmp_path / "copies"
    folder.mkdir()
    bring(intake.offered, folder, report)
    assert "node.toml" in report.troubles[0].remedy
    assert list(folder.iterdir()) == []


def test_copies_are_judged_and_not_the_stick(intake: Intake, tmp_path: Path) -> None:
    report = Report()
    for name, size in (("node.toml", 3 << 20), ("node.toml.sig", 10), ("qbb.link.rome", 5), ("other", 5)):
        (intake.offered / name).write_bytes(bytes(size))
    folder = tmp_path / "copies"
    folder.mkdir()
    bring(intake.offered, folder, report)
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {
        "node.toml": LONGEST_BYTES + 1,
        "node.toml.sig": 10,
        "qbb.link.rome": 5,
    }
    assert report.troubles == []


def test_no_node_file_says_how_to_give_one(intake: Intake) -> None:
    report = Report()
    assert standing(intake.kept, HERE, report) is None
    assert "QBB-NODE" in report.troubles[0].remedy


def test_a_link_secret_is_kept_and_others_are_refused(intake: Intake, node: NodeConfig) -> None:
    linksecret.make(intake.offered / "qbb.link.vienna", 4096)
    (intake.offered / "qbb.link.rome").write_bytes(bytes(100))
    (intake.offered / "qbb.link.rome").chmod(0o600)
    _, troubles = intake.take()
    assert len(troubles) == 1
    assert "qbb.link.rome (100 bytes) cannot be a link's secret" in troubles[0]
    kept = intake.kept.secrets / "qbb.link.vienna"
    assert kept.read_bytes() == (intake.offered / "qbb.link.vienna").read_bytes()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert intake.kept.taken.stat().st_mode & 0o777 == 0o600
    assert list(missing_secrets(node, intake.kept, ())) == ["rome"]


def test_what_cannot_be_written_is_told(intake: Intake) -> None:
    intake.kept.folder.write_text("in the way")
    (intake.offered / "node.toml").write_text(TEXT)
    taken, troubles = intake.take()
    assert taken is not None  # the machine is set up by it all the same
    assert "could not be written" in troubles[0]


def test_a_secret_that_cannot_be_taken_in_whole_leaves_nothing(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    linksecret.make(intake.offered / "qbb.link.vienna", 4096)
    written: list[BinaryIO] = []

    def failing(fd: int) -> None:
        written.append((intake.kept.secrets / "qbb.link.vienna.new").open("rb"))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        _, troubles = intake.take()
    assert "could not be written" in troubles[0] and len(troubles) == 1
    assert list(intake.kept.secrets.iterdir()) == []
    with written[0] as file:
        content = file.read()
    assert len(content) > 4096 and not any(content), "overwritten before it was removed"


def test_what_a_power_cut_left_is_destroyed_at_the_next_run(intake: Intake) -> None:
    clear_up(intake.kept, Report())  # there is nothing yet
    intake.kept.secrets.mkdir(parents=True)
    intake.kept.node.parent.mkdir()
    left = intake.kept.secrets / "qbb.link.vienna.new"
    for path in (left, intake.kept.secrets / "qbb.link.vienna", intake.kept.node.with_name("node.toml.new")):
        path.write_bytes(b"content")
    report = Report()
    with left.open("rb") as held:
        clear_up(intake.kept, report)
        assert held.read() == bytes(7)
    assert report.troubles == []
    assert [path.name for path in intake.kept.folder.rglob("*") if path.is_file()] == ["qbb.link.vienna"]


def test_the_report_is_read_back(tmp_path: Path) -> None:
    report = Report("paris", changed=True, cards=["enp2s0"])
    report.trouble("this", "do that")
    report.write(tmp_path / "report.json")
    assert reports.read(tmp_path / "report.json") == report
    assert reports.read(tmp_path / "none") is None


def test_a_network_card_that_is_not_there_is_told() -> None:
    listed = json.dumps([
        {"ifname": "lo", "link_type": "loopback", "address": "00:00:00:00:00:00"},
        {"ifname": "enp1s0", "link_type": "ether", "address": "52:54:00:12:34:56", "altnames": ["enx525400123456"]},
    ])  # fmt: skip
    assert not list(cards.absent(["enp1s0", "52:54:00:12:34:56", "enx525400123456"], listed))
    (trouble,) = cards.absent(["52:54:00:12:34:56", "enp2s0"], listed)
    assert "no network card enp2s0" in trouble.what
    assert trouble.remedy.endswith("This machine has: enp1s0 (52:54:00:12:34:56)")
    (trouble,) = cards.absent(["lo"], "")
    assert trouble.remedy.endswith("This machine has: none")
