"""Two nodes of real units: ready, confined, killed, hung, woken by their clients; and what the journal tells."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from appliance.lab import until
from appliance.services.vmgeneration import has_generation_id
from tests.topology import uevent
from tests.topology.talk import Flow, Talk

from .machine import Machine
from .pair import Pair, node_file

PROGRAMS = ("qbb-dataplane", "qbb-device@fibre-1", "qbb-keys", "qbb-monitor", "qbb-routing")
FRR = ("qbb-zebra", "qbb-ospfd")
UNITS = PROGRAMS + FRR
LIMIT_S = 240.0


def pids(machine: Machine) -> dict[str, int]:
    """Of all units, as soon as all run."""
    found: dict[str, int] = {}

    def all_run() -> bool:
        found.update({unit: machine.main_pid(f"{unit}.service") for unit in UNITS})
        return all(found.values()) and all(machine.active(f"{unit}.service") for unit in UNITS)

    until(all_run, lambda: f"all units run: {found}", LIMIT_S)
    return found


def test_every_unit_is_ready_and_says_what_it_does(pair: Pair) -> None:
    for machine in pair.machines.values():
        pids(machine)
        for unit in PROGRAMS:
            until(lambda m=machine, u=unit: m.show(f"{u}.service", "StatusText")["StatusText"], f"status of {unit}")

    def shown() -> str:
        return pair.paris.run("systemctl", "status", "--no-pager", "qbb-dataplane.service")

    until(lambda: 'Status: "1 of 1 links carry traffic"' in shown(), shown, LIMIT_S)
    until(lambda: "good" in pair.paris.try_run("qbb", "alarms").stdout, "the node is healthy", LIMIT_S)


def test_routing_goes_over_the_link(pair: Pair) -> None:
    def way() -> bool:
        return "1.1.0.4/30   intra-area  0.0.0.0  vienna" in pair.paris.run("qbb", "network")

    until(way, lambda: pair.paris.run("qbb", "network"), LIMIT_S)


def test_no_unit_may_do_what_it_need_not(pair: Pair) -> None:
    users = set()
    running = pids(pair.paris)
    for unit in UNITS:
        told = pair.paris.show(f"{unit}.service", "LimitCORE", "MemorySwapMax", "NoNewPrivileges", "User")
        assert (told["LimitCORE"], told["MemorySwapMax"], told["NoNewPrivileges"]) == ("0", "0", "yes"), unit
        status = pair.paris.path(f"/proc/{running[unit]}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2", unit
        assert "0" not in fields["Uid"].split(), unit
        users.add(told["User"])
        if unit in PROGRAMS:
            assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == int(fields["CapBnd"], 16) == 0, unit
    assert users == {"qbb-dataplane", "qbb-device", "qbb-keys", "qbb-monitor", "qbb-routing", "frr"}


def test_the_sockets_between_units_are_for_their_ends_alone(pair: Pair) -> None:
    def may(user: str, socket: str) -> bool:
        test = f"import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('/run/qbb/{socket}')"
        return not pair.paris.try_run("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups",
                                      "python3", "-c", test).returncode  # fmt: skip

    assert not may("qbb-device", "ring.sock") and not may("qbb-monitor", "ring.sock")
    assert not may("qbb-keys", "device.sock") and not may("qbb-routing", "pfkey.sock")
    assert not may("nobody", "pfkey.sock")


def test_a_client_wakes_the_keys_service(pair: Pair) -> None:
    pair.paris.run("systemctl", "stop", "qbb-keys.service")
    assert not pair.paris.active("qbb-keys.service")

    def talked() -> bool:
        try:
            with Talk(pair) as talk:  # type: ignore[arg-type]
                return bool(talk.key())
        except OSError:  # its connection to the data plane is not there at once
            return False

    until(talked, "a key", LIMIT_S)
    assert pair.paris.active("qbb-keys.service")


def test_a_unit_that_was_stopped_stays_so(pair: Pair) -> None:
    for unit in ("qbb-dataplane.service", "qbb-device@fibre-1.service"):
        before = pair.paris.main_pid("qbb-keys.service")
        pair.paris.run("systemctl", "stop", unit)
        until(lambda: "silent" in pair.paris.try_run("qbb", "alarms").stdout, "the monitor misses it", LIMIT_S)
        assert not pair.paris.active(unit)
        assert pair.paris.main_pid("qbb-keys.service") == before
        pair.paris.run("systemctl", "start", unit)
        pair.wait_ready()


@pytest.mark.parametrize("unit", UNITS)
def test_keys_flow_on_when_a_unit_is_killed(pair: Pair, flow: Flow, unit: str) -> None:
    flow.wait()
    before = pids(pair.paris)
    stored = pair.node("paris").link()["log_records"]
    pair.paris.run("systemctl", "kill", "--signal=KILL", f"{unit}.service")

    def back() -> bool:
        now = pair.paris.main_pid(f"{unit}.service")
        return now not in (0, before[unit]) and pair.paris.active(f"{unit}.service")

    until(back, f"{unit} comes back", LIMIT_S)
    flow.wait(limit_s=LIMIT_S)
    after = pids(pair.paris)
    assert {name for name in UNITS if after[name] != before[name]} == {unit}
    assert pair.node("paris").link()["log_records"] >= stored
    assert pair.node("paris").link()["state"] == "up"


def test_a_restored_machine_starts_afresh(pair: Pair, flow: Flow) -> None:
    """The kernel tells each unit that holds key in its own network namespace; confined as they are, they hear it."""
    flow.wait()
    before = pids(pair.paris)
    told = {unit: before[unit] for unit in ("qbb-dataplane", "qbb-keys")}
    for unit, pid in told.items():
        since = pair.paris.cursor()
        pair.paris.run("nsenter", "-t", str(pid), "-n", "python3", "-c", uevent.sender())
        until(lambda u=unit: pair.paris.main_pid(f"{u}.service") not in (0, told[u]), f"{unit} starts afresh", LIMIT_S)

        def tellers(since: str = since) -> list[str]:
            entries = pair.paris.entries("QBB_EVENT=machine-restored", f"--after-cursor={since}")
            return [entry["SYSLOG_IDENTIFIER"] for entry in entries]

        until(lambda u=unit: tellers() == [u], lambda: f"who tells of it: {tellers()}", LIMIT_S)
    flow.wait(limit_s=LIMIT_S)


def test_the_kernel_tells_the_namespace_of_a_confined_unit(pair: Pair) -> None:
    """Any uevent of the kernel's own will do: it sends all that are not a network's to every namespace."""
    if not os.access(uevent.SOURCE, os.W_OK):
        pytest.skip("this machine's /sys is read-only: no uevent can be had")
    pid = pair.paris.main_pid("qbb-keys.service")
    space = pair.paris.path(f"/proc/{pid}/ns/net")
    subprocess.run(["nsenter", f"--net={space}", sys.executable, "-c", uevent.RECEIVER], check=True, timeout=LIMIT_S)


def test_a_unit_that_would_not_hear_of_a_restoring_tells(pair: Pair) -> None:
    """A container has no log of the kernel."""
    entries = pair.paris.entries("QBB_EVENT=restoring-unheard")
    tellers = {entry["SYSLOG_IDENTIFIER"] for entry in entries}
    assert tellers == ({"qbb-dataplane", "qbb-keys"} if has_generation_id() else set())


def test_a_unit_that_hangs_is_started_again(pair: Pair, flow: Flow) -> None:
    for unit in PROGRAMS:
        folder = f"/run/systemd/system/{unit}.service.d"
        pair.paris.run("mkdir", "-p", folder)
        pair.paris.path(f"{folder}/watchdog.conf").write_text("[Service]\nWatchdogSec=4s\nTimeoutAbortSec=2s\n")
    pair.paris.run("systemctl", "daemon-reload")
    pair.paris.run("systemctl", "restart", *(f"{unit}.service" for unit in PROGRAMS))
    before = pids(pair.paris)
    pair.paris.run("sh", "-c", f"kill -STOP {' '.join(str(before[unit]) for unit in PROGRAMS)}")
    for unit in PROGRAMS:
        until(lambda u=unit: pair.paris.main_pid(f"{u}.service") not in (0, before[u]), f"{unit} comes back", LIMIT_S)
        until(lambda u=unit: "Watchdog timeout" in pair.paris.journal("-u", f"{u}.service"), "why is told", LIMIT_S)
    for unit in PROGRAMS:
        pair.paris.run("rm", "-r", f"/run/systemd/system/{unit}.service.d")
    pair.paris.run("systemctl", "daemon-reload")
    pair.paris.run("systemctl", "restart", *(f"{unit}.service" for unit in PROGRAMS))
    pair.wait_ready()
    flow.wait(limit_s=LIMIT_S)


def test_all_units_stop_and_start_in_order(pair: Pair) -> None:
    since = pair.paris.cursor()
    pair.paris.run("systemctl", "stop", "qbb.target", *(f"{unit}.service" for unit in UNITS))
    for unit in UNITS:
        assert pair.paris.show(f"{unit}.service", "ActiveState", "Result") == {
            "ActiveState": "inactive",
            "Result": "success",
        }
    assert "Traceback" not in pair.paris.journal(f"--after-cursor={since}")
    pair.paris.run("systemctl", "start", "qbb.target")
    pair.wait_ready()
    for unit in UNITS:
        until(lambda u=unit: pair.paris.active(f"{u}.service"), f"{unit} runs", LIMIT_S)


def test_the_journal_shows_the_life_of_a_link(pair: Pair) -> None:
    with Talk(pair) as talk:  # type: ignore[arg-type]
        talk.keys(3)
    entries = pair.paris.entries("QBB_LINK=vienna")
    assert {"link-up", "device-connected"} <= {entry["QBB_EVENT"] for entry in entries}
    wanted = {f"{unit}.service" for unit in PROGRAMS if unit != "qbb-monitor"}
    assert wanted <= {entry["_SYSTEMD_UNIT"] for entry in entries}
    for entry in entries:
        assert len(entry["MESSAGE_ID"]) == 32 and entry["SYSLOG_IDENTIFIER"].startswith("qbb-")


def test_the_catalogue_explains(pair: Pair) -> None:
    told = pair.paris.journal("-x", "QBB_EVENT=link-up", "-n", "1")
    assert "Defined-By: qbb" in told and "Subject: A link carries traffic" in told


def test_a_full_disk_is_told_of_and_costs_nothing_when_there_is_room_again(pair: Pair) -> None:
    """The store of paris on a small file system, which somebody fills. Blocks are refused; if the log cannot be written
    either, the link stops, and goes on by itself."""
    paris = pair.paris
    paris.run("systemctl", "stop", "qbb-dataplane.service")
    paris.run("sh", "-ec", "cp -a /var/lib/qbb /run/saved")
    paris.run("mount", "-t", "tmpfs", "-o", "size=32m", "small", "/var/lib/qbb")
    paris.run("sh", "-ec", "cp -a /run/saved/. /var/lib/qbb")
    paris.run("systemctl", "start", "qbb-dataplane.service")
    pair.wait_ready()
    since = paris.cursor()
    paris.try_run("dd", "if=/dev/zero", "of=/var/lib/qbb/filler", "bs=4k")

    def told() -> str:
        return paris.journal("-u", "qbb-dataplane.service", f"--after-cursor={since}")

    until(lambda: "No space left on device" in told(), told, LIMIT_S)
    assert paris.active("qbb-dataplane.service")
    paris.run("rm", "/var/lib/qbb/filler")
    pair.wait_ready()
    accepted = pair.accepted("paris")
    until(lambda: pair.accepted("paris") > accepted, told, LIMIT_S)
    with Talk(pair) as talk:  # type: ignore[arg-type]
        talk.keys(3)
    paris.run("systemctl", "stop", "qbb-dataplane.service")
    paris.run("sh", "-ec", "rm -rf /run/saved && cp -a /var/lib/qbb /run/saved && umount /var/lib/qbb")
    paris.run("sh", "-ec", "rm -rf /var/lib/qbb/* && cp -a /run/saved/. /var/lib/qbb && rm -rf /run/saved")
    paris.run("systemctl", "start", "qbb-dataplane.service")


def test_the_keys_service_gets_its_hardware_source(pair: Pair) -> None:
    """A device of root's, with the numbers of /dev/urandom: the unit sees it because its node file names it."""
    paris, node = pair.paris, pair.paris.path("/etc/qbb/node.toml")
    os.mknod(paris.path("/dev/hwrng"), stat.S_IFCHR | 0o600, os.makedev(1, 9))

    def status() -> str:
        return paris.try_run("qbb", "status", "--json").stdout

    def source(wanted: str, text: str) -> None:
        node.write_text(text)
        paris.run("systemctl", "daemon-reload")
        paris.run("systemctl", "restart", "qbb-keys.service")
        until(lambda: f'"source": "{wanted}"' in status(), lambda: f"keys from {wanted}: {status()}", LIMIT_S)

    before = node_file("paris")
    try:
        source("getrandom xor /dev/hwrng", f'{before}\n[keys]\nhardware_source = "/dev/hwrng"\n')
    finally:
        source("getrandom", before)
