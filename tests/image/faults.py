"""What goes wrong at a site, done to running appliances: each says what is wrong, and recovers by itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from typing import Any

from .guests import BOOT_S, Guest

FILL = "/var/fill"


def screen(guest: Guest, since: int = 0) -> str:
    """What its console said so far, without colours and line ends: it wraps long lines."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", guest.console()[since:]).split())


def links(guest: Guest, good: Callable[[dict[str, Any]], bool]) -> None:
    """Waits until its one link is as wanted."""

    def seen(said: str) -> bool:
        try:
            (link,) = json.loads(said)
        except ValueError:
            return False
        return good(link)

    guest.until("qbb links --json", seen, BOOT_S)


def link_up(guest: Guest) -> None:
    links(guest, lambda link: bool(link["usable"] and link["store_state"] == "ready"))


def alarm(guest: Guest, kind: str) -> None:
    guest.until("qbb alarms", lambda said: kind in said, BOOT_S)


def healthy(guest: Guest) -> None:
    guest.until("qbb alarms", lambda said: said == f"Health of node {guest.name}: good.", BOOT_S)


def unplugged(guest: Guest, other: Guest) -> None:
    """The network cable of the link is pulled out, and put back."""
    healthy(guest)
    guest.machine.cable(0, plugged=False)
    for end in (guest, other):
        alarm(end, "link-down")
    guest.until("qbb links", lambda said: "peer" in said)
    assert "unplugged" in screen(guest)
    guest.machine.cable(0, plugged=True)
    for end in (guest, other):
        link_up(end)
        healthy(end)


def full_var(guest: Guest) -> None:
    """/var is filled to the last block: nothing new can be kept, and what is made meanwhile is delivered later."""
    guest.run(f"fallocate -l $(($(stat -f -c '%f * %S' /var) * 9 / 10)) {FILL}")
    guest.run(f"dd if=/dev/zero of={FILL}.1 bs=1M; dd if=/dev/zero of={FILL}.2 bs=512; true")
    alarm(guest, "disk-full")
    guest.until("qbb alarms", lambda said: "No space left" in said, BOOT_S)
    assert "disk-full" in screen(guest)
    stored = stored_bytes(guest)
    guest.run(f"rm {FILL} {FILL}.1 {FILL}.2")
    link_up(guest)
    healthy(guest)
    guest.until("qbb links --json", lambda said: json.loads(said)[0]["stored_bytes"] > stored, BOOT_S)
    assert "What to do" in guest.run("journalctl -b -x -n 1 QBB_EVENT=disk-full")


def dying_disk(guest: Guest, other: Guest) -> None:
    """No write succeeds any more: told, and nothing is used that is not kept. With a disk that writes it is as before
    after it was started again."""
    guest.machine.fail_writes()
    guest.until("qbb alarms", lambda said: re.search("Input/output error|Read-only file system", said), BOOT_S)
    guest.machine.mend_writes()
    guest.run("systemctl reboot --no-block")
    guest.rebooted()
    for end in (guest, other):
        link_up(end)
        healthy(end)


def stored_bytes(guest: Guest) -> int:
    return int(json.loads(guest.run("qbb links --json"))[0]["stored_bytes"])


def wrong_clock(guest: Guest, use: Callable[[], object]) -> None:
    """The clock jumps by years, forth and back. Nothing of the node depends on the time of day: no unit dies, and
    `use`, which asks for keys, succeeds."""
    assert "not synchronised" in screen(guest)
    restarts = "systemctl show -P NRestarts 'qbb-*.service'"
    before = guest.run(restarts)
    for date in ("2041-01-01", "2025-01-01"):
        guest.run(f"date --set {date}")
        use()
        link_up(guest)
    assert guest.run(restarts) == before


def restored_from_a_snapshot(guest: Guest, other: Guest, use: Callable[[], object]) -> None:
    """Memory and disk of a running machine go back in time, twice to the same moment. Its cable stays out until the
    data plane has heard of it: what a machine says before that nobody can take back (see README, threat model)."""
    machine = guest.machine
    machine.freeze()
    kept = machine.disk.with_suffix(".kept")
    shutil.copyfile(machine.disk, kept)
    for _ in range(2):
        machine.kill()
        shutil.copyfile(kept, machine.disk)
        machine.thaw()
        guest.again()
        guest.until("journalctl -b -o cat QBB_EVENT=machine-restored", lambda said: len(said.splitlines()) >= 2, BOOT_S)
        guest.until("systemctl is-active qbb-dataplane qbb-keys", lambda said: said == "active\nactive")
        machine.cable(0, plugged=True)
        for end in (guest, other):
            link_up(end)
        use()
