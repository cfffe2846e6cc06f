"""The unit appliance-health of the appliance's image: may a new version be kept?

    python -m appliance.services.health [--go-back]

Yes when every program of the node runs and answers; that a neighbour or a fibre is gone is no fault of the version. A
machine that was never in order has nothing to go back to: there a node file that is missing or wrong is none either.

A version that does not reach health starts the machine again (--go-back, unit appliance-fallback), until its tries are
used up and the version before comes back. Where there is no other version it waits: somebody may be at work there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from appliance import config
from appliance.services import control, journal, notify
from appliance.services.monitor import units_of
from appliance.services.startup import DEFAULT_CONFIGURATION
from appliance.site import state

ONCE_HEALTHY = Path("/var/lib/site/once-healthy")
LIMIT = "QBB_HEALTH_LIMIT_S"  # in the unit's environment, for slow machines
LIMIT_S = 240.0
INTERVAL_S = 2.0
SETTLED_LOOKS = 5  # in a row: a program that dies and comes back is not in order


def silent_units(path: Path) -> list[str]:
    """Those that do not answer. Raises ConfigurationErrors."""
    node = config.load(path)
    silent = []
    for unit in [*units_of(node), "monitor"]:
        try:
            control.ask(node.control_socket(unit), "status", timeout_s=5.0)
        except (control.NoAnswer, control.Refused):
            silent.append(unit)
    return silent


def trouble(path: Path, once_healthy: bool) -> str:
    """Why it is not in order now; nothing when it is."""
    if not state.is_open():
        return "/var is not open"
    try:
        silent = silent_units(path)
    except config.ConfigurationErrors as errors:
        return f"the node file has become wrong: {errors}" if once_healthy else ""
    return f"{', '.join(silent)} do not answer" if silent else ""


def settle(path: Path, end_s: float) -> bool:
    """Waits until it is in order; until then at most, when there is another version."""
    good = 0
    while good < SETTLED_LOOKS:
        why = trouble(path, ONCE_HEALTHY.exists())
        good = 0 if why else good + 1
        notify.status(why or "in order")
        if why and time.monotonic() >= end_s and state.others(state.running()):
            journal.write("unit-failed", f"this version does not reach health: {why}")
            return False
        time.sleep(INTERVAL_S)
    return True


def go_back() -> int:
    """Starts the machine again, by the boot loader's counting in another version at the end."""
    others = state.others(state.running())
    if others:
        journal.write("unit-failed", f"started again, since {', '.join(others)} may come back")
        subprocess.run(["systemctl", "--no-block", "reboot"], check=False)
    return 0


def main(path: Path = DEFAULT_CONFIGURATION) -> int:
    parser = argparse.ArgumentParser(prog="appliance-health", description="Waits until the node is in order.")
    parser.add_argument("--go-back", action="store_true", help="start again where there is another version")
    if parser.parse_args().go_back:
        return go_back()
    if not settle(path, time.monotonic() + float(os.environ.get(LIMIT, LIMIT_S))):
        return 1
    with contextlib.suppress(OSError):
        if path.exists():
            ONCE_HEALTHY.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
