"""Forwarding in the running data plane: tables and policies go down to C, loads and ICMP come up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from appliance.config import LinkConfig, NodeConfig
from appliance.forwarding import reports
from appliance.forwarding.policy import LinkPolicy, NodePolicy
from appliance.forwarding.table import Destination, Hop, carrying, merge, rows
from appliance.native.dataplane import DataPlane, Punt
from appliance.native.forward import NetworkDrop, OverloadPolicy
from appliance.network.packet import PROTOCOL_ICMP
from appliance.services.linkunit import LinkUnit
from appliance.services.runtime import Loop

SUPPLY_INTERVAL_S = 1.0
PROTOCOL_AT = 9
NETWORK_CHANNEL = 1


def link_policy(link: LinkConfig) -> LinkPolicy:
    return LinkPolicy(
        link.load_window, link.load_critical, link.queue_mark_packets, link.low_mark_bytes, link.load_store_s
    )


def node_policy(node: NodeConfig) -> NodePolicy:
    f = node.forwarding
    return NodePolicy(f.overload == "drop", f.default_link, f.reports_per_s, f.reports_at_once)


class ForwardingUnit:
    """Of one node. ``set_learned`` takes the routing unit's whole table."""

    def __init__(self, loop: Loop, plane: DataPlane, node: NodeConfig, links: Sequence[LinkUnit]) -> None:
        self._plane, self._node, self._links = plane, node, links
        self._indexes = {unit.config.name: unit.index for unit in links}
        self._names = {unit.index: unit.config.name for unit in links}
        self._policy = node_policy(node)
        self._policies = {unit.config.name: link_policy(unit.config) for unit in links}
        self._received = reports.Received()
        self._reports_sent = 0
        self._learned: list[Destination] = []
        self.table: list[Destination] = []
        self._apply_policies()
        self._set_table()
        loop.every(SUPPLY_INTERVAL_S, self.update_supplies)

    def _apply_policies(self) -> None:
        default = self._policy.default_link
        overload = OverloadPolicy.DROP if self._policy.drop_overload else OverloadPolicy.DEFAULT_LINK
        self._plane.set_overload(overload, self._indexes[default] if default else -1)
        self._plane.set_report_rate(self._policy.reports_per_s, self._policy.reports_at_once)
        for name, policy in self._policies.items():
            index = self._indexes[name]
            self._plane.set_link_policy(index, policy.window, policy.critical, policy.queue_mark_packets)
        self.update_supplies()

    def update_supplies(self) -> None:
        """Tell C what each link can carry now."""
        for unit in self._links:
            policy = self._policies[unit.config.name]
            supply = policy.supply_words_s(unit.key_rate_bps(), unit.machine.custody.available_bytes())
            self._plane.set_supply(unit.index, supply)

    # --- the table ---------------------------------------------------------------------------------------------------

    def _configured(self) -> list[Destination]:
        return [
            Destination(
                int(route.prefix.network_address),
                route.prefix.prefixlen,
                (Hop(self._indexes[route.link], 0, True),),
            )
            for route in self._node.routes
        ]

    def _neighbours(self) -> list[Destination]:
        return [Destination(int(unit.config.peer), 32, (Hop(unit.index, 0, True),)) for unit in self._links]

    def set_learned(self, learned: Sequence[Destination], hold_s: float = 0.0) -> bool:
        """The routing unit's whole table; for ``hold_s`` without its alternates. True when it is another one."""
        if list(learned) == self._learned:
            return False
        self._learned = list(learned)
        self._set_table(hold_s)
        return True

    def _set_table(self, hold_s: float = 0.0) -> None:
        here = Destination(int(self._node.address), 32, None)
        self.table = merge([here], self._configured(), self._learned, self._neighbours())
        self._plane.set_table(rows(self.table), hold_s)

    def carrying_links(self) -> list[dict[str, str]]:
        """For each destination elsewhere the link by which it is reached, as the keys service is told: it refuses what
        no link carries, and a fault that alternatives go round is none."""
        usable = {unit.index for unit in self._links if unit.machine.usable}
        return [
            {"prefix": str(destination.network), "link": self._names[carrying(destination.hops, usable)]}
            for destination in self.table
            if destination.hops
        ]

    # --- ICMP --------------------------------------------------------------------------------------------------------

    def punt(self, punt: Punt) -> None:
        """What C left of channel 1: a dropped packet of which its source should hear, or ICMP for this node."""
        if punt.channel != NETWORK_CHANNEL:
            return
        if punt.reason:
            answer = reports.answer(self._node.address, NetworkDrop(punt.reason - 1), punt.clear)
            if answer is not None:
                self._reports_sent += self._plane.originate(answer)
        elif punt.clear[PROTOCOL_AT] == PROTOCOL_ICMP:
            self._received.take(self._node.address, punt.clear)
        else:
            self._received.counts["other-protocol"] += 1  # OSPF has a channel of its own

    # --- for people --------------------------------------------------------------------------------------------------

    def link_status(self, unit: LinkUnit) -> dict[str, Any]:
        """Beside the unit's own status: the load and what it is measured against."""
        load = self._plane.link_load(unit.index)
        return {
            "load": round(load.load, 4),
            "load_critical": load.critical,
            "load_window": self._policies[unit.config.name].window,
            "queued_packets": self._plane.stats(unit.index).queued,
            "queue_mark_packets": self._policies[unit.config.name].queue_mark_packets,
            "carries_bps": round(64 * load.supply_words_s),
        }

    def routes(self) -> dict[str, Any]:
        """See services/control.py."""
        return {
            "routes": [
                {
                    "prefix": str(destination.network),
                    "local": destination.hops is None,
                    "ways": [
                        {"link": self._names[hop.link], "cost": hop.cost, "loop_free": hop.loop_free}
                        for hop in destination.hops or ()
                    ],
                }
                for destination in self.table
            ],
            "overload": self._node.forwarding.overload,
            "default_link": self._policy.default_link,
        }

    def icmp(self) -> dict[str, Any]:
        return {"sent": self._reports_sent, "received": dict(self._received.counts)}
