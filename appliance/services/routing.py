"""The unit qbb-routing: carries OSPF between ospfd and the neighbours, and makes the routing table out of its database.

    python -m appliance.services.routing --config /etc/qbb/node.toml

It holds no key. It needs CAP_NET_ADMIN in its network namespace, in which qbb-frr runs too and nothing else does.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from appliance.config import NodeConfig
from appliance.routing import frrconfig
from appliance.routing.port import LinkState
from appliance.services import frr, journal, namespace, notify, startup
from appliance.services.control import ControlServer
from appliance.services.registryport import RegistryPort
from appliance.services.routinglinks import RoutedLinks
from appliance.services.routingplane import RoutingPlane
from appliance.services.routingtable import RoutingState
from appliance.services.runtime import Loop

STATUS_INTERVAL_S = 5.0


class RoutingService:
    """All of the unit. Raises OSError when an interface cannot be made."""

    def __init__(self, loop: Loop, node: NodeConfig) -> None:
        self._loop, self._node = loop, node
        self._settings = frr.settings(node)
        self._plane = RoutingPlane(
            loop,
            node.routing_socket,
            lambda: self._state.forget_sent(),
            self._plane_lost,
            self._links_changed,
            lambda index, packet: self._links.arrived(index, packet),
        )
        self._links = RoutedLinks(loop, node, self._settings, self._plane.send_packet)
        self._state = RoutingState(
            loop, self._settings, node.routing.hold_s, self._links, self._plane, random.SystemRandom().getrandbits(24)
        )
        self._registry = RegistryPort(
            loop,
            node.registry_socket,
            node.address,
            self._state.register,
            self._state.unregister,
            self._state.find,
            self._state.settled,
        )
        self._control = ControlServer(
            loop,
            node.control_socket("routing"),
            {
                "status": lambda arguments: self.status(),
                "routes": lambda arguments: self._state.routes(),
                "registrations": lambda arguments: {"registrations": self._state.registrations()},
            },
        )
        loop.every(STATUS_INTERVAL_S, lambda: notify.status(self._summary()))

    def _links_changed(self, states: list[LinkState]) -> None:
        self._links.update(states)
        self._state.links_changed()

    def _plane_lost(self, why: str) -> None:
        """Without a data plane no link carries anything."""
        journal.write("routing-no-dataplane", f"the data plane is gone: {why}")
        self._links.all_down()

    def _summary(self) -> str:
        status = self.status()
        if status["causes"]:
            return "; ".join(status["causes"])
        return (
            f"{status['adjacent']} of {len(self._settings.interfaces)} links adjacent, {status['destinations']} routes"
        )

    def status(self) -> dict[str, Any]:
        """See services/control.py."""
        return {
            "node": self._node.name,
            "address": str(self._node.address),
            "role": self._node.routing.role,
            "areas": [str(area) for area in self._settings.areas],
            "data_plane": self._plane.up,
            "causes": [
                *filter(None, (self._plane.cause, self._state.ospf.cause, self._links.vty_cause)),
                *self._state.unanswered(),
            ],
            "links": self._links.status(),
            **self._state.status(),
            "dropped": {**self._links.dropped, **self._plane.dropped, **self._state.dropped()},
        }

    def close(self) -> None:
        self._registry.close()
        self._control.close()
        self._state.close()
        self._plane.close()
        self._links.close()


def main() -> int:
    parser = startup.arguments("qbb-routing", "routing of a QBB node by OSPF")
    node = startup.configuration(parser.parse_args().config)
    loop = Loop()
    try:
        namespace.enter(node.routing.namespace)
        node.runtime_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        service = RoutingService(loop, node)
    except OSError as error:
        journal.write("unit-failed", f"cannot start: {error}")
        return 1
    journal.write("unit-started", f"node {node.name} ({node.address}), {len(node.routed_links)} routed links")
    notify.ready(f"{frrconfig.NODE_INTERFACE} and {len(node.routed_links)} links")
    loop.run()
    notify.stopping()
    service.close()
    journal.write("unit-stopped", "stopped in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
