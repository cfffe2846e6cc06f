"""Applications that connect by name, at real nodes with real FRR: three hops and two area borders away.

area 1.1.0.0        backbone        area 1.2.0.0
paris -- lyon ================= vienna -- rome
"""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import appliance.client
from appliance.client import Client, Connection, KeyServiceError
from appliance.lab import Network, NetworkPlan, until

from .routed import BACKBONE, link, running, site
from .talk import refusal, refused_with

PARIS, LYON, VIENNA, ROME = "1.1.1.1", "1.1.2.1", "1.2.1.1", "1.2.2.1"
WEST, EAST = "1.1.0.0", "1.2.0.0"
PATIENCE_S = 90.0
C_CLIENT = Path(appliance.client.__file__).parent / "c"


@pytest.fixture(scope="module")
def shared() -> Iterator[Network]:
    """One network for all tests."""
    plan = NetworkPlan(
        (
            site("paris", PARIS, WEST),
            site("lyon", LYON, WEST, "border"),
            site("vienna", VIENNA, EAST, "border"),
            site("rome", ROME, EAST),
        ),
        (
            link("west", ("paris", "lyon"), "1.1.128.0/30", 1, WEST),
            link("alps", ("lyon", "vienna"), "1.9.128.0/30", 1, BACKBONE),
            link("east", ("vienna", "rome"), "1.2.128.0/30", 1, EAST),
        ),
    )
    with running(plan) as made:
        yield made


@pytest.fixture
def network(shared: Network) -> Network:
    """All links carry keys, and both ends know the way to each other's area."""
    shared.wait_ready(PATIENCE_S)
    for here, there in (("paris", "1.2.0.0/16"), ("rome", "1.1.0.0/16")):
        until(lambda: prefixes(shared, here) & {there}, f"{here} knows {there}", PATIENCE_S)  # noqa: B023
    return shared


def prefixes(network: Network, name: str) -> set[str]:
    return {row["prefix"] for row in network.node(name).ask("dataplane", "routes")["routes"]}


def registered(network: Network, at: str) -> dict[str, int | None]:
    """Name and cost of what a node's routing unit knows."""
    rows: list[dict[str, Any]] = network.node(at).ask("routing", "registrations")["registrations"]
    return {row["name"]: row["cost"] for row in rows}


def wait_known(network: Network, at: str, name: str, known: bool = True) -> None:
    def holds() -> bool:
        return (registered(network, at).get(name) is not None) == known

    until(holds, lambda: f"{name} at {at}, known: {known}; {registered(network, at)}", PATIENCE_S)


def same_keys(asking: Client, connection: Connection, serving: Client, count: int = 5) -> None:
    for _ in range(count):
        with connection.key() as asked, serving.fetch(asked.id) as fetched:
            assert asked.secret == fetched.secret


def qbb(network: Network, at: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance.cli.main", "--config", str(network.node(at).config), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_by_name_across_area_borders(network: Network) -> None:
    rome, paris = network.node("rome"), network.node("paris")
    with rome.client(60) as server, paris.client(60) as client:
        server.register(7443, rome.public_address(), name="vault")
        wait_known(network, "paris", "vault")
        connection = client.connect(name="vault", prefetch=4)
        assert (str(connection.node), connection.remote_port) == (ROME, 7443)
        same_keys(client, connection, server)
        spent = network.node("vienna").link("east")["spent_bytes"]["pad"]
        assert spent >= 5 * 32, "by way of vienna"
        by_address = client.connect(ROME, 7443)
        same_keys(client, by_address, server, 1)

        shown = qbb(network, "paris", "registrations")
        row = next(line.split() for line in shown.stdout.splitlines() if line.startswith("vault"))
        assert row[:4] == ["vault", ROME, "7443", "tls"]
        told = qbb(network, "paris", "--json", "key", "--name", "vault", "--timeout", "60")
        assert told.returncode == 0, told.stderr
        answer = json.loads(told.stdout)
        assert (answer["node"], answer["port"]) == (ROME, 7443)
        with server.fetch(UUID(answer["id"])) as key:
            assert len(key.secret) == 32
        assert all(name in ("vault", "") for name in registered(network, "rome")), "who only asks is not announced"
        assert len(registered(network, "rome")) == 1
    wait_known(network, "paris", "vault", known=False)


def test_from_c_by_name(network: Network, tmp_path: Path) -> None:
    example = tmp_path / "example"
    subprocess.run(["cc", "-std=gnu11", "-o", example, C_CLIENT / "example.c", C_CLIENT / "qbb_client.c"], check=True)
    rome, paris = network.node("rome"), network.node("paris")

    def start(*words: object) -> subprocess.Popen[str]:
        command = [str(word) for word in (example, *words)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    with start(rome.pfkey, 6100, rome.public_address(), "fetch", "mint") as far:
        assert far.stdin is not None and far.stdout is not None and far.stdout.readline() == "ready\n"
        wait_known(network, "paris", "mint")
        with start(paris.pfkey, 5100, paris.public_address(), "connect", "mint", 0, 3) as near:
            assert near.stdin is not None and near.stdout is not None
            for _ in range(3):
                line = near.stdout.readline()
                far.stdin.write(line.split()[0] + "\n")
                far.stdin.flush()
                assert line and far.stdout.readline() == line
            near.stdin.close()
        with start(paris.pfkey, 5100, paris.public_address(), "connect", "nobody", 0, 1) as near:
            _, errors = near.communicate("")
            assert near.returncode == 1
            assert errors == f"{errno.ENOENT} no application named 'nobody' is registered in the network\n"
        far.stdin.close()


def test_the_nearest_of_a_name_and_then_the_next(network: Network) -> None:
    rome, vienna, paris = network.node("rome"), network.node("vienna"), network.node("paris")
    with rome.client(60) as far, paris.client(60) as client:
        far.register(7000, rome.public_address(), name="clock")
        with vienna.client(60) as near:
            near.register(7001, vienna.public_address(), name="clock")
            until(lambda: registered_ports(network, "paris", "clock") == {7000, 7001}, "both at paris", PATIENCE_S)
            connection = client.connect(name="clock")
            assert (str(connection.node), connection.remote_port) == (VIENNA, 7001)
            same_keys(client, connection, near, 2)
        until(lambda: registered_ports(network, "paris", "clock") == {7000}, "the nearer one is gone", PATIENCE_S)
        event = client.event(60)
        assert event.what == "deleted", "the application at the other end is gone: its connection ends"  # type: ignore[union-attr]
        error = refusal(lambda: connection.key(timeout_s=60))
        assert error.errno == errno.ENOTCONN and "there is no connection" in str(error)
        connection = client.connect(name="clock")
        assert (str(connection.node), connection.remote_port) == (ROME, 7000)
        same_keys(client, connection, far, 2)


def registered_ports(network: Network, at: str, name: str) -> set[int]:
    rows = network.node(at).ask("routing", "registrations")["registrations"]
    return {row["port"] for row in rows if row["name"] == name and row["cost"] is not None}


def test_a_name_that_nobody_has(network: Network) -> None:
    with network.node("paris").client(60) as client:
        error = refusal(lambda: client.connect(name="atlantis"))
        assert error.errno == errno.ENOENT
        assert str(error).endswith("no application named 'atlantis' is registered in the network")
        error = refusal(lambda: client.connect(ROME, 9999))
        assert error.errno == errno.ECONNREFUSED, "the far node refuses"
        error = refusal(lambda: client.connect("1.2.9.1", 443))
        assert error.errno == errno.ENETUNREACH and "unreachable" in str(error), (
            "vienna says so: its area has no such node"
        )
    told = qbb(network, "paris", "key", "--name", "atlantis", "--timeout", "60")
    assert told.returncode == 1
    assert "no key for atlantis: no application named 'atlantis' is registered" in told.stdout + told.stderr
    told = qbb(network, "paris", "key", "--to", ROME)
    assert told.returncode == 1 and "Give --name, or --to and --port" in told.stdout + told.stderr


def test_the_routing_unit_starts_again_under_connections(network: Network) -> None:
    """Connections go on; without it names are refused and addresses work; back, it hears of all applications."""
    rome, paris = network.node("rome"), network.node("paris")
    with rome.client(60) as server, paris.client(60) as client:
        server.register(7443, rome.public_address(), name="bank")
        wait_known(network, "paris", "bank")
        connection = client.connect(name="bank")
        same_keys(client, connection, server, 1)
        rome.units["routing"].kill()
        wait_known(network, "paris", "bank", known=False)
        paris.units["routing"].kill()
        until(
            lambda: not paris.ask("keys", "status")["registry"]["connected"], "paris' keys service sees it", PATIENCE_S
        )
        refused_with(
            lambda: client.connect(name="bank"), "no routing unit runs: connect by the node's address", PATIENCE_S
        )
        for node in (rome, paris):
            node.start("routing")
            node.wait_answers("routing", limit_s=PATIENCE_S)
        wait_known(network, "paris", "bank")
        network.wait_ready(PATIENCE_S)
        eventually(lambda: same_keys(client, connection, server, 1))
        again = client.connect(name="bank")
        same_keys(client, again, server, 1)


def eventually(action: Callable[[], object]) -> None:
    """What may be refused while routes come back."""

    def done() -> bool:
        try:
            action()
        except KeyServiceError as error:
            said.append(str(error))
            return False
        return True

    said: list[str] = []
    until(done, lambda: f"no refusal any more; it said {said[-3:]}", PATIENCE_S)


def test_a_node_that_dies_takes_its_applications_along(network: Network) -> None:
    """All units at once, without a word."""
    rome, paris = network.node("rome"), network.node("paris")
    with rome.client(60) as server, paris.client(60) as client:
        server.register(7443, rome.public_address(), name="tower")
        wait_known(network, "paris", "tower")
        connection = client.connect(name="tower")
        same_keys(client, connection, server, 1)
        for unit in rome.units.values():
            unit.kill()
        wait_known(network, "paris", "tower", known=False)
        error = refusal(lambda: client.connect(name="tower"))
        assert error.errno == errno.ENOENT and "no application named 'tower'" in str(error)
        error = refusal(lambda: connection.key(timeout_s=60))
        assert error.errno == errno.ETIMEDOUT and "no key was confirmed in time" in str(error)
        error = refusal(lambda: client.connect(ROME, 7443))
        assert error.errno in (errno.ETIMEDOUT, errno.ENETUNREACH), error
    rome.start()  # for the next test
    rome.wait_answers()
