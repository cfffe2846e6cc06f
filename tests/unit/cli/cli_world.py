"""Units that answer at real control sockets with answers of the shapes in services/control.py."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from appliance.services import control
from appliance.services.runtime import Loop

CONFIGURATION = """\
[node]
name = "alice"
address = "1.1.0.1"
state_directory = "{run}/state"
runtime_directory = "{run}"

[[link]]
name = "paris"
peer = "1.1.0.5"
listen = "192.0.2.1:7301"
remote = "192.0.2.2:7301"
network = "1.1.128.0/30"

[[link.device]]
name = "paris-1"
fibre = "unix:{run}/fibre"

[[link]]
name = "rome"
peer = "1.1.0.9"
listen = "192.0.2.1:7302"
remote = "192.0.2.3:7301"
"""


def link(name: str, peer: str, **other: Any) -> dict[str, Any]:
    return {
        "name": name,
        "peer": peer,
        "state": "up",
        "cause": "",
        "store_state": "ready",
        "stored_bytes": 3 << 20,
        "common_bytes": 2 << 20,
        "pickup_bytes": 4096,
        "out_bytes": 65536,
        "in_bytes": 65000,
        "key_rate_bps": 12345.0,
        "load": 0.25,
        "load_critical": 0.9,
        "load_window": 20.0,
        "carries_bps": 20000,
        "queued_packets": 2,
        "queue_mark_packets": 768,
        "log_records": 77,
        "epoch": 70,
        "devices": [{"name": f"{name}-1", "state": "connected", "qber": 0.0331, "rate_bps": 1200.0, "alarm": None}],
        "counters": {"duplicate": 3, "tag": 0},
        "spent_bytes": {"pad": 10240, "tag_data": 5120, "lost": 0},
        "delivered_key_bytes": 640,
        **other,
    }


ROME = {"state": "quarantine", "store_state": "quarantined", "cause": "the logs contradict each other"}
DATAPLANE = {
    "node": "alice",
    "address": "1.1.0.1",
    "uptime_s": 7500.0,
    "memory": "memfd_secret",
    "hash": "vpclmul",
    "links": [link("paris", "1.1.0.5"), link("rome", "1.1.0.9", **ROME)],
}
ROUTES = {
    "routes": [
        {"prefix": "1.1.0.1/32", "local": True, "ways": []},
        {
            "prefix": "1.1.0.9/32",
            "local": False,
            "ways": [
                {"link": "rome", "cost": 6, "loop_free": True},
                {"link": "paris", "cost": 10, "loop_free": True},
                {"link": "oslo", "cost": 30, "loop_free": False},
            ],
        },
    ],
    "overload": "drop",
    "default_link": None,
}
KEYS = {"node": "alice", "uptime_s": 60.0, "shelf_keys": 4096, "shelf_used": 5, "source": "kernel", "clients": 1}
ROUTING = {
    "links": [{"name": "paris"}],
    "adjacent": 1,
    "destinations": 3,
    "registrations": 2,
    "causes": ["OSPF finds no neighbour on link paris"],
}
NETWORK = {
    "hold": True,
    "routes": [
        {"destination": "1.1.0.0/30", "kind": "network", "path": "intra-area", "area": "0.0.0.0", "cost": 1,
         "local": True, "entries": []},
        {"destination": "1.2.0.0/16", "kind": "network", "path": "inter-area", "area": "0.0.0.0", "cost": 7,
         "local": False, "entries": [
             {"link": "paris", "next_hop": "1.1.0.5", "path": "inter-area", "cost": 7, "best": True, "loop_free": True},
             {"link": "rome", "next_hop": "1.1.0.9", "path": "inter-area", "cost": 9, "best": False, "loop_free": True},
             {"link": "oslo", "next_hop": "1.1.0.13", "path": "inter-area", "cost": 30, "best": False,
              "loop_free": False}]},
        {"destination": "1.1.0.5", "kind": "node", "path": "intra-area", "area": "0.0.0.0", "cost": 6, "local": False,
         "entries": [{"link": "paris", "next_hop": "1.1.0.5", "path": "intra-area", "cost": 6, "best": True,
                      "loop_free": True}]},
    ],
}  # fmt: skip
REGISTRATIONS = {
    "registrations": [
        {"name": "web", "address": "1.2.0.1", "port": 443, "kind": 240, "public": "192.0.2.7", "cost": 7},
        {"name": "vpn", "address": "1.1.0.5", "port": 500, "kind": 3, "public": None, "cost": None},
    ]
}
SESSION = {
    "local_port": 7000,
    "peer": "1.1.0.5",
    "peer_port": 7001,
    "state": "open",
    "keys_delivered": 12,
    "keys_confirmed": 12,
    "stock": 3,
    "priority": 2,
    "client": "charon",
}
DEVICE = {
    "name": "paris-1",
    "link": "paris",
    "kind": "simulated",
    "fibre": "unix:/run/fibre",
    "state": "exchanging",
    "distance_km": 25.0,
    "qber": 0.1512,
    "rate_bps": 0.0,
    "alarms": ["qber"],
    "blocks_made": 9,
    "blocks_discarded": 2,
    "blocks_accepted": 8,
    "blocks_refused": 0,
    "blocks_pending": 1,
    "dataplane": "connected",
    "uptime_s": 5.0,
    "memory": "memfd_secret",
}


class Units:
    """The control sockets of a node, served in a thread. `discarded` notes what was discarded."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "node.toml"
        self.config.write_text(CONFIGURATION.format(run=directory))
        self.discarded: list[str] = []
        self._loop = Loop()
        self._servers = {
            "dataplane": self._serve(
                "dataplane",
                {"status": lambda _: DATAPLANE, "discard": self._discard, "routes": lambda _: ROUTES},
            ),
            "keys": self._serve("keys", {"status": lambda _: KEYS, "sessions": lambda _: {"sessions": [SESSION]}}),
            "routing": self._serve(
                "routing",
                {
                    "status": lambda _: ROUTING,
                    "routes": lambda _: NETWORK,
                    "registrations": lambda _: REGISTRATIONS,
                },
            ),
            "device-paris-1": self._serve("device-paris-1", {"status": lambda _: DEVICE}),
        }
        self._running = True
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _serve(self, unit: str, handlers: dict[str, control.Handler]) -> control.ControlServer:
        return control.ControlServer(self._loop, self.directory / f"{unit}.control", handlers)

    def _discard(self, arguments: dict[str, Any]) -> dict[str, int]:
        if arguments["link"] != "rome":
            raise control.Refused("the store is not quarantined")
        self.discarded.append(arguments["link"])
        return {"discarded_bytes": 3 << 20}

    def _run(self) -> None:
        while self._running:
            self._loop.turn(0.01)

    def close(self) -> None:
        self._running = False
        self._thread.join()
        for server in self._servers.values():
            server.close()
