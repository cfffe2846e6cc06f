"""The unit qbb-dataplane: key stores, Q3P links and forwarding of one node.

    python -m appliance.services.dataplane --config /etc/qbb/node.toml

The C thread moves packets; this program decides: it runs the link machines, opens channels, takes devices' blocks and
gives the keys service its ring. It holds all local keys, in C.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from appliance import config
from appliance.config import NodeConfig
from appliance.forwarding.table import Destination
from appliance.native import keymem
from appliance.native.dataplane import DataPlane, Punt, PuntKind
from appliance.q3p.link import Mode
from appliance.services import journal, notify, startup
from appliance.services.control import ControlServer, Refused
from appliance.services.deviceport import DevicePort
from appliance.services.forwarding import ForwardingUnit
from appliance.services.linkchannel import LinkChannel
from appliance.services.linkunit import LinkUnit
from appliance.services.ringport import RingPort
from appliance.services.routingport import CHANNEL as ROUTING_CHANNEL
from appliance.services.routingport import RoutingPort
from appliance.services.runtime import Loop
from appliance.services.vmgeneration import GenerationWatch

MOST_PUNTS = 256  # handled in one go, so that devices and commands get their turn
STATUS_INTERVAL_S = 5.0


class DataPlaneService:
    """All of the unit; ``start`` serves as soon as every store could be read."""

    def __init__(self, loop: Loop, node: NodeConfig) -> None:
        self._loop, self._node = loop, node
        self._began_s = time.monotonic()
        self.restored: str | None = None  # why going on would spend key a second time
        self._generation = GenerationWatch(loop, self._machine_restored)
        self._plane = DataPlane(node.address)
        self._ring: RingPort | None = None
        self._links: list[LinkUnit] = []
        self._channels: list[LinkChannel] = []
        self._channel_causes: dict[str, str] = {}
        for link in node.links:
            self._add(link)
        self.forwarding = ForwardingUnit(loop, self._plane, node, self._links)
        self._plane.start()
        loop.watch(self._plane.punt_fd, self._punts)
        by_name = {unit.config.name: unit for unit in self._links}
        self._devices = DevicePort(loop, node.device_socket, by_name)
        self._routing = RoutingPort(loop, node.routing_socket, self._plane, self._learned, self._describe)
        self._ring = RingPort(loop, node.ring_socket, self._plane, str(node.address), self._describe)
        handlers = {
            "status": lambda arguments: self.status(),
            "discard": self._discard,
            "routes": lambda arguments: self.forwarding.routes(),
        }
        self._control = ControlServer(loop, node.control_socket("dataplane"), handlers)
        loop.every(STATUS_INTERVAL_S, self._look)

    def _add(self, link: config.LinkConfig) -> None:
        secret = config.secret_path(link)
        if secret is None:
            name = config.credential(link)
            raise FileNotFoundError(
                2, f'link "{link.name}" has no secret: put it into /etc/credstore/{name}, mode 0600'
            )
        unit = LinkUnit(self._loop, self._plane, self._node, link, secret, self._changed)

        def failed(why: str | None) -> None:
            if why is None:
                self._channel_causes.pop(link.name, None)
            else:
                if self._channel_causes.get(link.name) != why:
                    journal.write("link-down", why, link=link.name, cause=why)
                self._channel_causes[link.name] = why

        self._links.append(unit)
        self._channels.append(LinkChannel(self._loop, self._plane, unit.index, link, unit.settings.master, failed))

    def start(self) -> None:
        for unit, channel in zip(self._links, self._channels, strict=True):
            channel.open()
            unit.start()

    def stop(self) -> None:
        self._plane.stop()
        for channel in self._channels:
            channel.close()
        for unit in self._links:
            unit.close()
        self._generation.close()
        self._control.close()

    def _machine_restored(self, why: str) -> None:
        """Not one packet more from this memory: whoever runs the loop stops the C thread first of all."""
        self.restored = why
        self._loop.stop()

    # --- from the C thread -------------------------------------------------------------------------------------------

    def _punts(self, events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._plane.punt_fd)  # before the queue, so that what comes meanwhile is told anew
        for _ in range(MOST_PUNTS):
            punt = self._plane.next_punt()
            if punt is None:
                return
            self._punt(punt)
        os.eventfd_write(self._plane.punt_fd, 1)  # there may be more

    def _punt(self, punt: Punt) -> None:
        unit = self._links[punt.link]
        if punt.kind is PuntKind.HELLO:
            unit.hello(punt.clear)
        elif punt.kind is PuntKind.CONTROL:
            unit.control(punt)
        elif punt.kind is PuntKind.NETWORK and punt.channel == ROUTING_CHANNEL:
            self._routing.packet(punt.link, punt.clear)
        elif punt.kind is PuntKind.NETWORK:
            self.forwarding.punt(punt)
        elif punt.kind is PuntKind.ALARM:
            name = unit.config.name
            journal.write("clear-mismatch", f"link {name}: a genuine packet was padded in the wrong place", link=name)
        elif punt.kind is PuntKind.CHANNEL_LOST:
            self._channels[punt.link].lost()

    # --- for the keys service and operators ------------------------------------------------------------------------

    def _learned(self, table: Sequence[Destination]) -> None:
        """The keys service hears of new routes at once: it refuses what no route leads to."""
        if self.forwarding.set_learned(table) and self._ring is not None:
            self._ring.push()

    def _changed(self) -> None:
        if self._ring is not None:
            self._ring.push()
            self._routing.push()

    def _describe(self) -> dict[str, Any]:
        links = [
            {
                "name": unit.config.name,
                "index": unit.index,
                "peer": str(unit.config.peer),
                "usable": unit.machine.usable,
                "cause": unit.cause(),
                "rate_bps": unit.key_rate_bps(),
                "stored_bytes": unit.machine.custody.available_bytes(),
            }
            for unit in self._links
        ]
        return {"type": "links", "links": links, "routes": self.forwarding.carrying_links()}

    def _look(self) -> None:
        notify.status(self._summary())
        for unit, channel in zip(self._links, self._channels, strict=True):
            unit.look()
            channel.look(unit.machine.silent)

    def _summary(self) -> str:
        usable = sum(unit.machine.usable for unit in self._links)
        return f"{usable} of {len(self._links)} links carry traffic"

    def status(self) -> dict[str, Any]:
        links = []
        for unit, channel in zip(self._links, self._channels, strict=True):
            shown = unit.status() | self.forwarding.link_status(unit)
            shown["refused_connections"] = channel.strangers.refused
            shown["cause"] = self._channel_causes.get(unit.config.name) or shown["cause"]
            links.append(shown)
        return {
            "node": self._node.name,
            "address": str(self._node.address),
            "uptime_s": round(time.monotonic() - self._began_s, 1),
            "memory": keymem.kind(),
            "hash": self._plane.hash_name,
            "network_drops": self._plane.network_drops(),
            "icmp": self.forwarding.icmp(),
            "routing": self._routing.status(),
            "links": links,
        }

    def _discard(self, arguments: dict[str, Any]) -> dict[str, Any]:
        name = arguments.get("link")
        unit = next((unit for unit in self._links if unit.config.name == name), None)
        if unit is None:
            raise Refused(f"there is no link {name!r} here")
        if unit.machine.mode not in (Mode.QUARANTINE, Mode.FAILED):
            raise Refused(f"link {name} is {unit.machine.mode.value}: only a quarantined or failed store is discarded")
        discarded = unit.discard()
        journal.write("link-discarded", f"link {name}: {discarded} bytes of key destroyed", link=name)
        return {"discarded_bytes": discarded}


def main() -> int:
    parser = startup.arguments("qbb-dataplane", "key stores, Q3P links and forwarding of a QBB node")
    node = startup.configuration(parser.parse_args().config)
    loop = Loop()
    try:
        startup.harden(node.runtime_directory)
        service = DataPlaneService(loop, node)
    except OSError as error:
        journal.write("unit-failed", f"cannot start: {error}")
        return 1
    service.start()
    journal.write("unit-started", f"node {node.name} ({node.address}), {len(node.links)} links")
    notify.ready(f"{len(node.links)} links")
    loop.run()
    service.stop()
    notify.stopping()
    if service.restored:
        journal.write("machine-restored", service.restored)
        return 1  # and systemd starts it: a fresh hello voids what was open
    journal.write("unit-stopped", "stopped in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
