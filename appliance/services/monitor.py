"""The unit qbb-monitor: asks the other units every few seconds what stands, and tells it in one place.

    python -m appliance.services.monitor --config /etc/qbb/node.toml

It needs no privilege but the group of the control sockets. What the other units tell the journal it does not tell
again: only that the node's health changed, and what nobody else tells: of a unit that went silent, of a full disk.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from appliance.config import NodeConfig
from appliance.monitor.alarms import Alarm
from appliance.monitor.watch import Watch
from appliance.services import control, journal, notify, startup
from appliance.services.control import ControlServer
from appliance.services.runtime import Loop

INTERVAL_S = 2.0
ANSWER_S = 1.0  # a unit that takes longer hangs
OWN_NEWS = {"unit-silent": "unit", "disk-full": "path"}  # alarms that nobody else tells, with what they are about


def units_of(node: NodeConfig) -> list[str]:
    """Those that must run by the node's configuration. Of FRR's daemons, which answer nobody, routing tells."""
    devices = [f"device-{device.name}" for link in node.links for device in link.devices]
    return ["dataplane", "keys", *(["routing"] if node.routed_links else []), *devices]


def room(path: Path) -> dict[str, Any]:
    """Of the file system that holds it, for who is not root; empty where that cannot be told."""
    with contextlib.suppress(OSError):
        found = os.statvfs(path)
        return {
            "path": str(path),
            "free_bytes": found.f_bavail * found.f_frsize,
            "size_bytes": found.f_blocks * found.f_frsize,
        }
    return {}


class MonitorService:
    """Raises OSError when its socket cannot be made."""

    def __init__(self, loop: Loop, node: NodeConfig) -> None:
        self._loop, self._node = loop, node
        self._units = units_of(node)
        self._watch = Watch()
        self._health = "good"
        self._control = ControlServer(loop, node.control_socket("monitor"), {"status": lambda arguments: self.status()})
        self._look()

    def _look(self) -> None:
        answers = {unit: self._answer(unit) for unit in self._units} | {"disk": room(self._node.state_directory)}
        changes = self._watch.seen(answers, self._loop.now())
        for alarm in changes.came:
            if (field := OWN_NEWS.get(alarm.kind)) is not None:
                journal.write(alarm.kind, alarm.text, **{field: alarm.about})
        self._tell_health(changes.came)
        notify.status(self._summary())
        self._loop.after(INTERVAL_S, self._look)

    def _answer(self, unit: str) -> Any:
        with contextlib.suppress(control.NoAnswer, control.Refused):
            return control.ask(self._node.control_socket(unit), "status", timeout_s=ANSWER_S)
        return None

    def _tell_health(self, came: list[Alarm]) -> None:
        if self._watch.health == self._health:
            return
        self._health = self._watch.health
        if self._health == "good":
            journal.write("node-healthy", "no alarm stands")
        else:
            first = f": {came[0].about}: {came[0].text}" if came else ""
            link = came[0].link if came else None
            text = f"the node's health is {self._health}{first}"
            journal.write("node-unhealthy", text, health=self._health, link=link)

    def _summary(self) -> str:
        alarms = self._watch.standing(self._loop.now())
        if not alarms:
            return f"{len(self._units)} units answer, no alarm stands"
        return f"{len(alarms)} alarm{'s' if len(alarms) > 1 else ''}; {alarms[0]['about']}: {alarms[0]['text']}"

    def status(self) -> dict[str, Any]:
        """See services/control.py."""
        return {
            "node": self._node.name,
            "address": str(self._node.address),
            "health": self._watch.health,
            "units": self._units,
            "alarms": self._watch.standing(self._loop.now()),
        }

    def close(self) -> None:
        self._control.close()


def main() -> int:
    parser = startup.arguments("qbb-monitor", "alarms of a QBB node")
    node = startup.configuration(parser.parse_args().config)
    loop = Loop()
    try:
        node.runtime_directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        service = MonitorService(loop, node)
    except OSError as error:
        journal.write("unit-failed", f"cannot start: {error}")
        return 1
    journal.write("unit-started", f"node {node.name} ({node.address}), {len(service.status()['units'])} units")
    notify.ready(f"{len(service.status()['units'])} units")
    loop.run()
    notify.stopping()
    service.close()
    journal.write("unit-stopped", "stopped in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
