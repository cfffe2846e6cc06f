"""Networks of real processes in network namespaces, gone after each test."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator

import pytest

from appliance.lab import Network, NetworkPlan, Run, pair

from .talk import Flow, Talk

Make = Callable[..., Network]


@pytest.fixture
def networks() -> list[Network]:
    """What the test has made."""
    return []


@pytest.fixture
def make(networks: list[Network]) -> Iterator[Make]:
    """Makes and starts a network and waits until its links carry keys; ready=False does not wait."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    with Run() as run:

        def started(plan: NetworkPlan | None = None, ready: bool = True) -> Network:
            network = Network(run, plan or pair())
            networks.append(network)
            network.start()
            if ready:
                network.wait_ready()
            return network

        yield started


@pytest.fixture
def network(make: Make) -> Network:
    """Two nodes, one link, one fibre."""
    return make()


@pytest.fixture
def talk(network: Network) -> Iterator[Talk]:
    with Talk(network) as made:
        yield made


@pytest.fixture
def flow(network: Network) -> Iterator[Flow]:
    made = Flow(network)
    made.start()
    yield made
    made.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the units' last words to a failure."""
    report = yield
    networks: list[Network] = item.funcargs.get("networks", [])  # type: ignore[attr-defined]
    if report.when == "call" and report.failed:
        for network in networks:
            for process in network.processes():
                report.sections.append((process.name, process.said()[-3000:]))
    return report
