"""The routing namespace is entered, or made, by units that start together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from appliance.lab import namespaces
from appliance.services import namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

STARTERS, ROUNDS = 12, 3
# Each says which namespace it came to, and which interfaces are up there.
STARTER = """
import sys, time
from appliance.services import namespace
print("ready", flush=True)
sys.stdin.read()
namespace.enter(sys.argv[1])
print(namespace.identity(), namespace.strangers(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def name() -> Iterator[str]:
    made = f"qns{os.getpid()}-{time.monotonic_ns() % 10**6}"
    yield made
    namespaces.remove(made)


class Starters:
    """They start when one pipe closes, all at once."""

    def __init__(self, name: str, count: int) -> None:
        command = [sys.executable, "-c", STARTER, name]
        reading, self._go = os.pipe()
        self._all = [subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        os.close(reading)
        self.pids = {one.pid for one in self._all}

    def __enter__(self) -> Starters:
        return self

    def said(self) -> list[str]:
        """The next line of each."""
        return [one.stdout.readline() for one in self._all if one.stdout]

    def go(self) -> None:
        os.close(self._go)

    def __exit__(self, *_: object) -> None:
        for one in self._all:
            one.kill()
            one.communicate()


def test_many_that_start_together_come_to_one_namespace(name: str) -> None:
    for _ in range(ROUNDS):
        with Starters(name, STARTERS) as starters:
            assert set(starters.said()) == {"ready\n"}
            starters.go()
            came = set(starters.said())
            inside = set(namespaces.processes(name))
        namespaces.remove(name)
        assert len(came) == 1, came
        assert came.pop().endswith(" []\n")
        assert inside == starters.pids


def test_one_that_others_are_just_making_is_waited_for(name: str) -> None:
    """ip netns add makes the file first and mounts the namespace on it after."""
    path = namespaces.path(name)
    path.touch()
    with Starters(name, 1) as starters:
        assert starters.said() == ["ready\n"]
        starters.go()
        time.sleep(0.2)  # it has seen the file, or sees it later: both must do
        subprocess.run(["unshare", "--net", "mount", "--bind", "/proc/self/ns/net", path], check=True)
        (said,) = starters.said()
        assert int(said.split()[0]) == path.stat().st_ino


def test_a_file_that_is_no_namespace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "PATIENCE_S", 0.1)
    path = namespaces.path(name)
    path.touch()
    try:
        with pytest.raises(OSError, match="is no network namespace") as caught:
            namespace.enter(name)
        assert str(path) in str(caught.value) and f"ip netns delete {name}" in str(caught.value)
    finally:
        path.unlink()
