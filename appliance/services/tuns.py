"""Opens the TUN interfaces for qbb-routing, which may not: by root, in its network namespace, before it starts.

    python -m appliance.services.tuns         as ExecStartPre=+ of qbb-routing.service

The descriptors go to the unit's store of descriptors (FDSTORE of sd_notify(3)), which hands them to each start of
qbb-routing. So it needs no privilege, and the interfaces outlive its crashes.
"""

from __future__ import annotations

import errno
import sys

from systemd import daemon

from appliance.services import frr, journal, startup
from appliance.services.tun import PREFIX, Tun, wanted


def main() -> int:
    parser = startup.arguments("qbb-routing", "Opens the interfaces of qbb-routing.")
    node = startup.configuration(parser.parse_args().config)
    try:
        for name, address, mtu in wanted(frr.settings(node)):
            try:
                tun = Tun(name, address, mtu)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    continue  # the store has it, from before a crash
                raise
            daemon.notify(f"FDSTORE=1\nFDNAME={PREFIX}{name}", fds=[tun.fd])
    except OSError as error:
        journal.write("unit-failed", f"cannot make the interfaces of routing: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
