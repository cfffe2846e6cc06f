"""The data plane's programs in one process: what the routing unit says reaches the keys service at once."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from appliance import config
from appliance.native import linksecret
from appliance.routing import port
from appliance.routing.port import Row
from appliance.services import ringport, routingport
from appliance.services.dataplane import DataPlaneService
from appliance.services.runtime import Loop

NEVER_S = 3600.0


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Loop, DataPlaneService]]:
    """Nothing is pushed because its time has come."""
    monkeypatch.setattr(ringport, "PUSH_INTERVAL_S", NEVER_S)
    monkeypatch.setattr(routingport, "PUSH_INTERVAL_S", NEVER_S)
    linksecret.make(tmp_path / "secret", 8192)
    node = config.parse(
        f'[node]\nname = "paris"\naddress = "1.1.1.1"\nstate_directory = "{tmp_path}"\n'
        f'runtime_directory = "{tmp_path}"\n[[link]]\nname = "vienna"\npeer = "1.1.2.1"\nlisten = "127.0.0.1:7301"\n'
        f'remote = "127.0.0.1:7302"\nsecret = "{tmp_path / "secret"}"\n'
    )
    loop = Loop()
    made = DataPlaneService(loop, node)
    yield loop, made
    made.stop()


def connected(loop: Loop, path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    connection.connect(str(path))
    loop.turn(5)
    return connection


def routes(loop: Loop, keys: socket.socket) -> set[str]:
    """As the keys service was told last, after whatever is due."""
    told: list[dict[str, Any]] = []
    loop.turn(0.2)
    while True:
        try:
            told.append(json.loads(keys.recv(1 << 18)))
        except BlockingIOError:
            break
    (*_, last) = [message for message in told if message["type"] == "links"] or [{"routes": []}]
    return {route["prefix"] for route in last["routes"]}


def test_new_routes_reach_the_keys_service_at_once(service: tuple[Loop, DataPlaneService], tmp_path: Path) -> None:
    loop, _ = service
    with connected(loop, tmp_path / "ring.sock") as keys, connected(loop, tmp_path / "routing.sock") as routing:
        assert routes(loop, keys) == {"1.1.2.1/32"}
        for version, far in enumerate(("1.2.0.0", "1.3.0.0")):
            table = [Row(int(IPv4Address(far)), 16, (("vienna", 3, True),))]
            for message in port.table_messages(version, table, {"vienna": 0}):
                routing.send(message)
            assert routes(loop, keys) == {"1.1.2.1/32", f"{far}/16"}
        routing.send(message)
        assert routes(loop, keys) == set(), "the same table again is no news"
