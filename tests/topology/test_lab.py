"""`qbb lab`, from the outside: the square of the paper's Figure 18, its faults, and that nothing stays.

qbb1 ---- qbb2
 |         |        From qbb1 the way to qbb4 is by qbb3 (7 + 2), not by qbb2 (6 + 4).
qbb3 ---- qbb4
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.client import Client, Connection, KeyServiceError
from appliance.lab import namespaces, record, until
from appliance.lab.record import Recorded

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

SQUARE = Path(__file__).resolve().parents[2] / "packaging" / "examples" / "square.toml"
LIMIT_S = 120.0


class Lab:
    """A lab file with a name of its own, and the command."""

    def __init__(self, directory: Path) -> None:
        self.name = f"test-{os.getpid()}-{int(time.monotonic() * 100) % 10**6}"
        self.file = directory / "lab.toml"
        self.file.write_text(SQUARE.read_text().replace('name = "square"', f'name = "{self.name}"'))

    def qbb(self, *words: str, status: int = 0) -> str:
        """`qbb lab WORD FILE ...`: what it printed."""
        command = [*self.command(words[0]), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def command(self, word: str) -> list[str]:
        return [sys.executable, "-m", "appliance.cli.main", "lab", word, str(self.file)]

    def top(self) -> str:
        words = [sys.executable, "-m", "appliance.cli.main", "top", "--once", "--lab", self.name]
        return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout

    def status(self) -> dict[str, Any]:
        words = [sys.executable, "-m", "appliance.cli.main", "--json", "lab", "status", str(self.file)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.status()["nodes"] if node["name"] == name)

    def down_links(self) -> set[str]:
        return {link for node in self.status()["nodes"] for link in node["not_up"]}

    @property
    def found(self) -> Recorded:
        found = record.read(self.name)
        assert found is not None
        return found

    def client(self, node: str) -> Client:
        return Client(Path(self.found.nodes[node]) / "run" / "pfkey.sock")


class Traces:
    """What a lab has on this machine, to see that it goes."""

    def __init__(self, lab: Lab) -> None:
        self._lab, self._found = lab, lab.found
        self.run = self._found.run
        self._processes = list(record.processes(lab.name))
        self._namespaces = namespaces.existing(f"qbb-{self._found.run}-")

    def __len__(self) -> int:
        return len(self._processes)

    def left(self) -> list[str]:
        left = [name for pid, started, name in self._processes if record.start_time(pid) == started]
        left += namespaces.existing(f"qbb-{self._found.run}-")
        left += [path for path in (self._found.directory, str(record.place(self._lab.name))) if Path(path).exists()]
        left += [f"keeper {self._found.keeper}"] if self._found.alive else []
        return left + [link for link in _interfaces() if link.startswith("qbb")]


def _interfaces() -> list[str]:
    return [entry.name for entry in Path("/sys/class/net").iterdir()]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    try:
        yield lab
    finally:
        record.end(lab.name)


def test_a_square_with_keys_faults_and_nothing_left(lab: Lab) -> None:
    assert "4 nodes, 4 links up" in lab.qbb("up")
    assert "qbb3-qbb4" in lab.top()
    traces = Traces(lab)
    assert len(traces) == 4 + 4 * 2 + 8  # fibres; data plane and keys; devices
    assert "runs already" in lab.qbb("up", status=1)

    _keys_cross_relays(lab)
    _an_idle_data_plane_rests(lab)
    _execute(lab)
    _faults(lab)
    _kill_and_restart(lab)
    _keys_cross_relays(lab)

    assert "is removed" in lab.qbb("down")
    assert traces.left() == []
    assert "There is no lab" in lab.qbb("down")
    assert "does not run" in lab.qbb("status", status=1)


def _keys_cross_relays(lab: Lab) -> None:
    """Equal at both ends of two hops, and relayed by qbb3, not by qbb2."""
    before = {node: _delivered(lab, node) for node in ("qbb2", "qbb3")}
    with lab.client("qbb1") as near, lab.client("qbb4") as far:
        near.register(5000, "192.0.2.1")
        address = str(far.register(6000, "192.0.2.4"))
        assert address == "1.1.0.13"
        connection = near.connect(address, 6000, local_port=5000, prefetch=8)
        for _ in range(20):
            with connection.key() as key, far.fetch(key.id) as other:
                assert key.secret == other.secret and len(key.secret) == 32 and any(key.secret)
    assert _delivered(lab, "qbb3") > before["qbb3"]
    assert _delivered(lab, "qbb2") == before["qbb2"]


def _delivered(lab: Lab, node: str) -> int:
    """Bytes of session keys that the node took in by its links."""
    told = json.loads(lab.qbb("exec", node, "qbb", "--json", "links"))
    return sum(link["delivered_key_bytes"] for link in told)


def _an_idle_data_plane_rests(lab: Lab) -> None:
    """It spun once: a descriptor that nobody emptied. Its own processor time, which no other load can raise."""
    pid = lab.node("qbb1")["units"]["dataplane"]["pid"]
    before = _processor_s(pid)
    time.sleep(2)
    assert _processor_s(pid) - before < 1.0


def _processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _execute(lab: Lab) -> None:
    assert "1.1.0.5" in lab.qbb("exec", "qbb2", "qbb", "status")
    assert "10.77.0.1" in lab.qbb("exec", "qbb1", "ip", "-br", "addr")
    lab.qbb("exec", "qbb1", "--", "sh", "-c", "exit 7", status=7)
    assert "there is no node rome" in lab.qbb("exec", "rome", "true", status=1)


def _faults(lab: Lab) -> None:
    assert "qbb1-qbb2, qbb1-qbb3" in lab.qbb("cut", "paris-rome", status=1)
    lab.qbb("cut", "qbb1-qbb2")
    lab.qbb("tap", "qbb3-qbb4", "1.0")
    assert "from 0 to 1" in lab.qbb("tap", "qbb3-qbb4", "1.5", status=1)
    until(lambda: lab.down_links() == {"qbb1-qbb2", "qbb3-qbb4"}, lambda: f"two links down: {lab.status()}", LIMIT_S)
    lab.qbb("status", status=1)
    lab.qbb("mend", "qbb1-qbb2")
    lab.qbb("mend", "qbb3-qbb4")
    until(lambda: not lab.down_links(), lambda: f"links up: {lab.status()}", LIMIT_S)
    lab.qbb("rate", "qbb1-qbb2", "400 kbit/s")
    assert "is not a number with a unit" in lab.qbb("rate", "qbb1-qbb2", "much", status=1)


def _kill_and_restart(lab: Lab) -> None:
    before = lab.node("qbb3")["units"]
    lab.qbb("kill", "qbb3", "dataplane", "keys")
    assert set(lab.node("qbb3")["not_running"]) == {"dataplane", "keys"}
    assert lab.node("qbb3")["units"]["keys"]["status"] == -signal.SIGKILL
    assert "has no unit light" in lab.qbb("kill", "qbb3", "light", status=1)
    lab.qbb("restart", "qbb3")
    after = lab.node("qbb3")["units"]
    assert all(after[unit]["pid"] not in (None, before[unit]["pid"]) for unit in before)
    until(lambda: lab.node("qbb3")["links_up"] == 2, lambda: f"qbb3 is back: {lab.status()}", LIMIT_S)
    until(lambda: not lab.down_links(), lambda: f"links up: {lab.status()}", LIMIT_S)


@pytest.mark.skipif(not Path("/usr/lib/frr/ospfd").exists(), reason="Debian package frr is not installed")
def test_two_areas_by_ospf(lab: Lab) -> None:
    """From an access node of one area to a node of the other, over the backbone; FRR's daemons go too."""
    areas = SQUARE.with_name("areas.toml").read_text()
    lab.file.write_text(areas.replace('name = "areas"', f'name = "{lab.name}"'))
    assert "5 nodes, 4 links up" in lab.qbb("up")
    traces = Traces(lab)
    with lab.client("alice") as near, lab.client("vienna") as far:
        near.register(5000, "192.0.2.1")
        address = str(far.register(6000, "192.0.2.4"))
        connection = until(lambda: _connected(near, address), "a route to vienna, known to the keys service", LIMIT_S)
        with connection.key() as key, far.fetch(key.id) as other:
            assert key.secret == other.secret and len(key.secret) == 32
    lab.qbb("down")
    assert traces.left() == []
    assert not list(Path("/run/frr").glob(f"qbb-{traces.run}-*"))


def _connected(client: Client, address: str) -> Connection | None:
    try:
        return client.connect(address, 6000, local_port=5000)
    except KeyServiceError as refused:
        assert refused.errno == errno.ENETUNREACH, refused
        return None


def test_what_a_killed_up_left_is_removed_by_down(lab: Lab) -> None:
    """Killed in the middle: the command, and then the keeper too, which leaves namespaces, a record and a directory."""
    up = subprocess.Popen(lab.command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(list(record.processes(lab.name))) > 4, "some units run", LIMIT_S)
    traces = Traces(lab)
    keeper = lab.found.keeper
    up.kill()
    os.kill(keeper, signal.SIGKILL)
    up.wait()
    until(lambda: not lab.found.alive, "the keeper is dead", LIMIT_S)
    assert record.place(lab.name).exists() and traces.left()
    lab.qbb("down")
    assert traces.left() == []


def test_interrupting_up_removes_what_it_made(lab: Lab) -> None:
    # Who starts the tests in the background of a shell has it ignore SIGINT, and what it starts as well.
    command = ["env", "--default-signal=INT", *lab.command("up")]
    up = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: len(list(record.processes(lab.name))) > 4, "some units run", LIMIT_S)
    traces = Traces(lab)
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=LIMIT_S)
    assert up.returncode == 130, said
    assert traces.left() == []


def test_what_does_not_come_up_is_named(lab: Lab) -> None:
    text = lab.file.read_text().replace('key_rate = "200 kbit/s"', 'key_rate = "100 bit/s"')
    lab.file.write_text(text)
    told = lab.qbb("up", "--timeout", "10", status=1)
    assert "8 of 8 ends of links are not up" in told
    assert "qbb1, link qbb1-qbb2: " in told and ", store " in told
    lab.qbb("down")


def test_a_bad_file_is_refused_with_its_place(lab: Lab) -> None:
    lab.file.write_text(lab.file.read_text().replace('ends = ["qbb1", "qbb2"]', 'ends = ["qbb1", "rome"]'))
    told = lab.qbb("up", status=1)
    assert f"{lab.file}:" in told and 'there is no node "rome"; nodes are qbb1, qbb2, qbb3, qbb4' in told
    assert not record.place(lab.name).exists()
