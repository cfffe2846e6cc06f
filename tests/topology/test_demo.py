"""`make demo` as a visitor sees it: the whole story with few sessions, and that nothing stays when it is stopped."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.lab import namespaces, record, run, until

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(not Path("/usr/lib/frr/ospfd").exists(), reason="Debian package frr is not installed"),
]
LIMIT_S = 400.0
SESSIONS = 10


class Demo:
    """A running demonstration under a name of its own."""

    def __init__(self, directory: Path) -> None:
        self.name = f"demo-{os.getpid()}-{int(time.monotonic() * 100) % 10**6}"
        self._out = directory / "out"
        words = ["env", "--default-signal=INT"]  # which is ignored when the tests run in the background of a shell
        words += [sys.executable, "-m", "appliance.demo", "--name", self.name, "--sessions", str(SESSIONS)]
        with self._out.open("wb") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def said(self) -> str:
        return "\n".join(line.rstrip() for line in self._out.read_text(errors="replace").splitlines()) + "\n"

    def wait_for(self, words: str) -> None:
        until(
            lambda: words in self.said() or self.process.poll() is not None, lambda: f"{words}: {self.said()}", LIMIT_S
        )
        assert words in self.said(), self.said()

    def runs(self) -> list[str]:
        """Ids of the lab's run and of the demonstration's own, whose lock it holds open."""
        found = record.read(self.name)
        opened = []
        for path in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                opened.append(path.readlink())
        own = [path.name for path in opened if path.parent == run.LOCKS and path != run.GATE]
        assert found is not None and own
        return [found.run, *own]

    def left(self, runs: list[str]) -> list[str]:
        left = [name for one in runs for name in namespaces.existing(f"qbb-{one}-")]
        left += [str(path) for path in (record.place(self.name), *(run.LOCKS / one for one in runs)) if path.exists()]
        return left + [str(path) for one in runs for path in Path("/run/frr").glob(f"qbb-{one}-*")]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    try:
        yield demo
    finally:
        demo.process.terminate()
        demo.process.wait(LIMIT_S)


def test_the_whole_story(demo: Demo) -> None:
    demo.wait_for("All costs are those of the paper.")
    runs = demo.runs()
    assert demo.process.wait(LIMIT_S) == 0, demo.said()
    told = demo.said()
    assert re.search(r"NA4 +1\.4\.0\.0/16 +16 QBB3 +18 +> 17 +a misprint: 9 \+ 8 = 17", told)
    assert re.search(r"QBB4 +1\.1\.0\.13 +9 QBB3 +10 +> 9\n", told)
    assert '10 keys to "archive" in Area 2' in told
    for fault in ("Fault 1", "Fault 2", "Fault 3", "Load: a backup"):
        assert fault in told
    assert re.search(
        rf"TLS 1.3 sessions, each with a key of its own, equal at both ends +{2 * SESSIONS + 3 * 40}\n", told
    )
    assert re.search(r"sessions that failed, requests that were refused +0\n", told)
    assert re.search(r"QBB1-QBB3 +1\.00 ", told), "what each hop spent"
    assert re.search(r"for a key, p99( +[0-9.]+ m?s){5}\n", told)
    assert told.rstrip().endswith("Everything was as it should be.")
    assert demo.left(runs) == []


def test_interrupted_it_leaves_nothing(demo: Demo) -> None:
    """While faults are on, and sessions under way."""
    demo.wait_for("Fault 1")
    runs = demo.runs()
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(LIMIT_S) == 130, demo.said()
    assert demo.said().rstrip().endswith("stopped; all is removed")
    assert demo.left(runs) == []


def test_killed_it_takes_its_network_along(demo: Demo) -> None:
    """The keeper ends in order as soon as the demonstration is gone. Until then another of its name is refused."""
    until(lambda: record.read(demo.name) is not None and len(list(record.processes(demo.name))) > 4, "units", LIMIT_S)
    lab, own = demo.runs()
    again = [sys.executable, "-m", "appliance.demo", "--name", demo.name]
    refused = subprocess.run(again, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert refused.returncode == 2
    assert f"lab {demo.name} runs already" in refused.stderr
    demo.process.kill()
    demo.process.wait()
    until(lambda: not demo.left([lab]), lambda: f"all of the lab goes: {demo.left([lab])}", LIMIT_S)
    with run.locked(run.GATE):
        run.remove_dead()  # as the next run does
    assert demo.left([own]) == []
