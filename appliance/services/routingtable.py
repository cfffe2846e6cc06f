"""What the node knows of the network: ospfd's database, the table made of it, and everybody's registrations.

When ospfd or this unit starts again, the database is empty and fills. The table in force stays until the new database
is whole and has every usable link, or neighbours had the time of two hellos: links carry keys all the while.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from appliance.routing import port, table, vty
from appliance.routing.frrconfig import Settings
from appliance.routing.lsa import HOST_BITS, LinkKind
from appliance.routing.lsdb import Change, Database
from appliance.routing.ospfapi import Changed, Event, Ready, Refusal
from appliance.routing.port import Row
from appliance.routing.registrations import OPAQUE_KIND, Action, Directory, Publisher, Registration
from appliance.routing.table import Path, Route, Table, Target
from appliance.services import journal
from appliance.services.ospfclient import OspfApi
from appliance.services.registryport import Found, shown
from appliance.services.routinglinks import RoutedLinks
from appliance.services.routingplane import RoutingPlane
from appliance.services.runtime import Loop, Timer

SETTLE_HELLOS = 2
LOOK_S = 1.0
GATHER_S = 0.02  # changes that come together are taken together


class RoutingState:
    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        hold_s: float,
        links: RoutedLinks,
        plane: RoutingPlane,
        first_id: int,
    ) -> None:
        self._loop, self._settings, self._hold_s = loop, settings, hold_s
        self._links, self._plane = links, plane
        self._names = {int(one.near): one.link for one in settings.interfaces}
        self._ranges = {(int(network.network_address), network.prefixlen) for network in settings.ranges}
        self._database = Database()
        self._settling_until: float | None = None
        self._whole = False  # the database has been sent to its end
        self._table = Table({}, ())
        self._rows: list[Row] | None = None  # as last sent
        self._version = 0
        self._computed = 0
        self._hold: Timer | None = None
        self._timers: dict[str, Timer] = {}
        self._directory = Directory()
        self._publisher = Publisher(settings.address, first_id)
        self._ready = False  # ospfd takes our LSAs
        self._refused: dict[str, int] = {}
        self._external = False  # an AS boundary router, as ospfd was told
        self._missed: set[str] = set()  # interfaces that ospfd did not know at the last look
        loop.every(LOOK_S, self._look)
        self.ospf = OspfApi(loop, OPAQUE_KIND, self._began, self._event, self._settled, self._lost)

    def _soon(self, what: str, after_s: float) -> None:
        """One call for many reasons."""
        waiting = self._timers.get(what)
        if waiting is None or waiting.callback is None:
            calls = {"table": self._compute, "directory": self._read_directory, "publish": self._publish}
            self._timers[what] = self._loop.after(after_s, lambda: self._run(what, calls[what]))

    def _run(self, what: str, call: Any) -> None:
        self._timers.pop(what, None)
        call()

    # --- ospfd -------------------------------------------------------------------------------------------------------

    def _began(self) -> None:
        journal.write("ospf-connected", "ospfd's database is being read")
        self._database, self._whole = Database(), False
        self._settling_until = self._loop.now() + SETTLE_HELLOS * self._settings.hello_interval_s
        self._loop.at(self._settling_until, lambda: self._soon("table", 0))
        self._links.tell_costs()
        self._external = False
        self._tell_external()

    def _lost(self, why: str) -> None:
        journal.write("ospf-lost", f"ospfd is gone: {why}; the table stays until it is back")
        self._ready = False

    def _look(self) -> None:
        """zebra loses addresses that are given while it starts (8.4.4). What ospfd does not know at two looks in a row
        is told again."""
        missing: set[str] = set()
        if self.ospf.up and self._whole:
            own = int(self._settings.address)
            bodies = (area.router(own) for area in self._database.areas.values())
            known = {link.id for body in bodies if body for link in body.links if link.kind == LinkKind.STUB}
            missing = {name for name, network in self._links.networks().items() if network not in known}
        self._tell_external()
        again = missing & self._missed
        if again:
            self._links.announce(again)
        self._missed = missing - again

    def _event(self, event: Event) -> None:
        if isinstance(event, Changed):
            self._changed(event)
        elif isinstance(event, Ready):
            self._ready = True
            for action in self._publisher.again():
                self.ospf.originate(*action)
            self._soon("publish", GATHER_S)
        elif isinstance(event, Refusal):
            reason = f"{event.request.name.lower()}: {event.reason}"
            self._refused[reason] = self._refused.get(reason, 0) + 1
            if self._refused[reason] == 1:
                journal.write("ospf-command-failed", f"ospfd refused {reason}")

    def _changed(self, event: Changed) -> None:
        change = (self._database.remove if event.gone else self._database.put)(event.area, event.lsa)
        if change & Change.PATHS:
            self._start_hold()
            self._soon("table", GATHER_S)
        if change & Change.REGISTRATIONS:
            self._soon("directory", GATHER_S)

    def _settled(self) -> None:
        self._whole = True
        self._soon("table", 0)
        self._soon("directory", 0)

    # --- the table ---------------------------------------------------------------------------------------------------

    def _start_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
        self._hold = self._loop.after(self._hold_s, self._end_hold)

    def _end_hold(self) -> None:
        self._hold = None
        self._send()

    def _compute(self) -> None:
        found = table.compute(self._database, int(self._settings.address), self._names, self._ranges)
        if self._settling_until is not None:
            complete = self._whole and self._links.usable() <= {one.link for one in found.interfaces}
            if not complete and self._loop.now() < self._settling_until:
                return
            self._settling_until = None
        self._table, self._computed = found, self._computed + 1
        self._send()

    def forget_sent(self) -> None:
        """A data plane that has no table from us gets it once it has told of its links."""
        self._rows = None

    def links_changed(self) -> None:
        if self._settling_until is not None:
            self._soon("table", GATHER_S)
        self._send()

    def _send(self) -> None:
        if not self._computed:
            return
        rows = self._table.rows(hold=self._hold is not None)
        indexes = self._links.indexes()
        if rows == self._rows or not self._plane.up or not indexes:
            return
        self._rows, self._version = rows, self._version + 1
        self._plane.send_table(port.table_messages(self._version, rows, indexes))

    # --- registrations -----------------------------------------------------------------------------------------------

    def register(self, one: Registration) -> None:
        """Raises LocalProtocolError."""
        self._publisher.add(one)
        self._soon("publish", GATHER_S)

    def unregister(self, one: Registration) -> None:
        self._publisher.remove(one)
        self._soon("publish", GATHER_S)

    def _publish(self) -> None:
        self._tell_external()
        if self._ready:
            self._originate(self._publisher.flush())

    def _originate(self, actions: list[Action]) -> None:
        for action in actions:
            self.ospf.originate(*action)

    def _tell_external(self) -> None:
        """Others can tell whether a node with registrations is there."""
        wanted = bool(self._publisher.all())
        if wanted != self._external and self.ospf.up and self._links.command(vty.set_external(wanted)):
            self._external = wanted

    def _read_directory(self) -> None:
        if self._whole:
            self._directory.rebuild(self._database.opaque_of(OPAQUE_KIND))

    def _cost(self, router: int) -> int | None:
        """Of the way to a node; None when there is none."""
        if router == int(self._settings.address):
            return 0
        route = self._table.routes.get(Target(True, router, HOST_BITS))
        return route.cost if route is not None else None

    def _local(self) -> Iterator[tuple[Registration, int]]:
        """They need no ospfd to be found here."""
        own = int(self._settings.address)
        return ((one, own) for one in self._publisher.all())

    def find(self, name: str | None, address: IPv4Address | None, to_port: int) -> Found:
        """By name, or by address and port."""
        if name is not None:
            known = self._directory.named(name)
            local = [pair for pair in self._local() if pair[0].name == name]
        else:
            assert address is not None
            known = self._directory.at(address, to_port)
            local = [pair for pair in self._local() if (pair[0].address, pair[0].port) == (address, to_port)]
        own = int(self._settings.address)
        others = [pair for pair in known if pair[1] != own]
        return [(one, cost) for one, router in local + others if (cost := self._cost(router)) is not None]

    def settled(self) -> bool:
        """Who is not found is not there."""
        return self.ospf.up and self._whole and self._settling_until is None

    def registrations(self) -> list[dict[str, Any]]:
        own = int(self._settings.address)
        pairs = [*self._local(), *(pair for pair in self._directory.all() if pair[1] != own)]
        return [{**shown(one), "cost": self._cost(router)} for one, router in pairs]

    def unanswered(self) -> list[str]:
        """What is wrong with links that carry packets, and no neighbour's OSPF answers there."""
        if not self.ospf.up:
            return []
        adjacent = {one.link for one in self._table.interfaces}
        lonely = self._links.usable_for(self._settings.dead_interval_s) - adjacent
        return [
            f"OSPF finds no neighbour on link {name}: is qbb-routing there up, and are network, area, hello_interval_s "
            "and dead_interval_s equal at both ends?"
            for name in sorted(lonely)
        ]

    # --- for people --------------------------------------------------------------------------------------------------

    def dropped(self) -> dict[str, int]:
        return {**self.ospf.dropped, **self._directory.dropped, **self._refused}

    def status(self) -> dict[str, Any]:
        return {
            "ospf": self.ospf.up,
            "adjacent": len(self._table.interfaces),
            "destinations": sum(not target.router for target in self._table.routes),
            "nodes": sum(target.router for target in self._table.routes),
            "registrations": len(self._directory.all()),
            "own_registrations": len(self._publisher.all()),
            "hold": self._hold is not None,
            "settling": self._settling_until is not None,
            "table_version": self._version,
            "computed": self._computed,
        }

    def routes(self) -> dict[str, Any]:
        ordered = sorted(self._table.routes.values(), key=lambda route: route.target)
        return {"hold": self._hold is not None, "routes": [_shown_route(route) for route in ordered]}

    def close(self) -> None:
        self.ospf.close()


def _shown_route(route: Route) -> dict[str, Any]:
    return {
        "destination": str(route.target),
        "kind": "node" if route.target.router else "network",
        "path": "inter-area" if route.path is Path.INTER else "intra-area",
        "area": str(IPv4Address(route.area)),
        "cost": route.cost,
        "local": route.local,
        "entries": [
            {
                "link": entry.link,
                "next_hop": str(IPv4Address(entry.neighbour)),
                "path": "inter-area" if entry.path is Path.INTER else "intra-area",
                "cost": entry.cost,
                "best": entry.best,
                "loop_free": entry.loop_free,
            }
            for entry in route.entries
        ],
    }
