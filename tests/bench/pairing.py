"""Two real nodes in namespaces, with the key rate and the chunks of a 1 Mbit/s link."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pyroute2 import netns

from appliance.client import Client, Connection
from appliance.lab import ClientPlan, DevicePlan, LinkPlan, Network, NetworkPlan, Run, SitePlan
from appliance.lab.plan import Value

RATE_BPS = 1_000_000
CHARGING_SPEED = 4000.0
SPEED = 420.0  # of a 10 km fibre: 1 Mbit/s
BLOCK_BYTES = 32 << 10  # what privacy amplification gives at a time: some 10^5 bits
APPLICATIONS = {"paris": 5000, "vienna": 6000}


class Pair:
    """A context manager: charged quickly, then run at 1 Mbit/s of key. Else the defaults of the configuration hold:
    chunks of 256 KiB."""

    def __init__(self, rule: Mapping[str, Value] | None = None) -> None:
        client = ClientPlan({**ClientPlan().settings, **(rule or {})})
        sites = tuple(SitePlan(name, f"1.1.1.{n}", (client,)) for n, name in enumerate(APPLICATIONS, 1))
        fibre = DevicePlan("fibre-1", speed=CHARGING_SPEED, block_bytes=BLOCK_BYTES)
        link = LinkPlan("line", ("paris", "vienna"), (fibre,), {"key_rate_bps": RATE_BPS})
        self._plan = NetworkPlan(sites, (link,))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            run = stack.enter_context(Run())
            self.directory: Path = run.directory
            self.network = Network(run, self._plan)
            self.network.start()
            self.network.wait_ready()
            self.network.ask_fibre("fibre-1", "speed", factor=SPEED)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def connected(self, prefetch: int = 0) -> Iterator[tuple[Client, Client, Connection]]:
        """Applications at both nodes: the one that asks, the one that fetches, the connection."""
        paris, vienna = (self.network.node(name) for name in APPLICATIONS)
        with paris.client() as asking, vienna.client() as fetching:
            fetching.register(APPLICATIONS["vienna"], vienna.public_address())
            asking.register(APPLICATIONS["paris"], paris.public_address())
            port = APPLICATIONS["paris"]
            yield (
                asking,
                fetching,
                asking.connect(vienna.address, APPLICATIONS["vienna"], local_port=port, prefetch=prefetch),
            )

    def stock(self) -> int:
        """Keys ready for the asking application."""
        sessions = self.network.node("paris").ask("keys", "sessions")["sessions"]
        return sum(session["stock"] for session in sessions)

    def links(self) -> dict[str, dict[str, Any]]:
        """Status of the link, as each node has it."""
        return {name: node.link() for name, node in self.network.nodes.items()}

    def stop_fibre(self) -> None:
        self.network.ask_fibre("fibre-1", "speed", factor=0.001)

    def udp_socket(self, site: str) -> socket.socket:
        """In the site's namespace, at its address on the wire."""
        node = self.network.node(site)
        netns.pushns(node.namespace)
        try:
            found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            netns.popns()
        found.bind((node.public_address(), 0))
        return found
