"""The units qbb-zebra and qbb-ospfd: one daemon of FRR each, under systemd.

    python -m appliance.services.frrunit zebra --prepare     by root: its folder and configuration
    python -m appliance.services.frrunit zebra               becomes zebra

Both run in the network namespace of qbb-routing, each as a unit of its own, so that one may die and come back without
the other. FRR's daemons tell systemd nothing: no readiness, no watchdog. That ospfd answers is seen by qbb-routing.
"""

from __future__ import annotations

import os
import sys
import time

from appliance.config import NodeConfig
from appliance.services import frr, journal, namespace, startup

ZEBRA_WAIT_S = 10.0
LOOK_AGAIN_S = 0.05


def await_zebra(node: NodeConfig) -> None:
    """ospfd that does not find zebra tries again only after 10 s."""
    end = time.monotonic() + ZEBRA_WAIT_S
    while not (frr.folder(node) / frr.ZEBRA_SOCKET).exists() and time.monotonic() < end:
        time.sleep(LOOK_AGAIN_S)


def main() -> int:
    parser = startup.arguments("qbb-frr", "One of FRR's daemons for a QBB node, under systemd.")
    parser.add_argument("program", choices=frr.PROGRAMS)
    parser.add_argument("--prepare", action="store_true", help="make its folder and configuration, and end")
    options = parser.parse_args()
    journal.identifier = f"qbb-{options.program}"
    node = startup.configuration(options.config)
    try:
        if options.prepare:
            frr.check(node.routing.frr)
            frr.prepare(node, [options.program])
            return 0
        if options.program == "ospfd":
            await_zebra(node)
        elif strangers := namespace.strangers():
            raise frr.Missing(f"{', '.join(strangers)} may not be in FRR's network namespace")
        command = frr.command(node, options.program)
        os.execv(command[0], command)
    except (frr.Missing, OSError, LookupError) as error:
        journal.write("unit-failed", f"cannot start {options.program}: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
