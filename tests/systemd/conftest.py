"""Machines with real systemd. They need root; without it the tests fail, and say so."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from appliance.lab import Run
from tests.topology.talk import Flow

from .machine import Machine
from .package import base, built
from .pair import Pair


@pytest.fixture(scope="session")
def package() -> Path:
    """The .deb."""
    return built()


@pytest.fixture(scope="session")
def debian(package: Path) -> Path:
    """A Debian 13 with what the package needs."""
    assert os.geteuid() == 0, "machines in systemd-nspawn need root"
    return base(package)


@pytest.fixture
def run() -> Iterator[Run]:
    with Run() as made:
        yield made


@pytest.fixture(scope="module")
def shared_pair(debian: Path, package: Path) -> Iterator[Pair]:
    """One boot for many tests."""
    with Run() as made:
        pair = Pair(made, debian, package)
        pair.start()
        pair.wait_ready()
        yield pair


@pytest.fixture
def pair(shared_pair: Pair) -> Iterator[Pair]:
    """Two nodes whose link carries keys. A test leaves them so, or says why not."""
    yield shared_pair
    shared_pair.wait_ready()


@pytest.fixture
def flow(pair: Pair) -> Iterator[Flow]:
    """Applications at both nodes that ask for keys all the time."""
    made = Flow(pair)
    made.start()
    yield made
    made.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the machines' last words to a failure."""
    report = yield
    if report.when == "call" and report.failed:
        for value in item.funcargs.values():  # type: ignore[attr-defined]
            machines = value.machines.values() if isinstance(value, Pair) else [value]
            for machine in machines:
                if isinstance(machine, Machine) and machine.leader:
                    report.sections.append((machine.name, machine.try_run("journalctl", "--no-pager", "-n40").stdout))
    return report
