"""The unit appliance-health of the appliance's image: may a new version be kept?

Yes when every program of the node runs and answers; that a neighbour or a fibre is gone is no fault of the version. A
machine that was never in order has nothing to go back to: there a node file that is missing or wrong is none either.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

from appliance import config
from appliance.services import control, journal, notify
from appliance.services.monitor import units_of
from appliance.services.startup import DEFAULT_CONFIGURATION

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
    try:
        silent = silent_units(path)
    except config.ConfigurationErrors as errors:
        return f"the node file has become wrong: {errors}" if once_healthy else ""
    return f"{', '.join(silent)} do not answer" if silent else ""


def main(path: Path = DEFAULT_CONFIGURATION) -> int:
    end, good, why = time.monotonic() + float(os.environ.get(LIMIT, LIMIT_S)), 0, ""
    while good < SETTLED_LOOKS and time.monotonic() < end:
        why = trouble(path, ONCE_HEALTHY.exists())
        good = 0 if why else good + 1
        notify.status(why or "in order")
        time.sleep(INTERVAL_S)
    if good < SETTLED_LOOKS:
        journal.write("unit-failed", f"this version does not reach health: {why}; the one before comes back")
        return 1
    with contextlib.suppress(OSError):
        if path.exists():
            ONCE_HEALTHY.touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
