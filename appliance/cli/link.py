"""link show, link secret, link discard."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from appliance.cli.asking import Failed, Node
from appliance.cli.output import BAD, Screen, percent, rate, size, text


def show(node: Node, screen: Screen, options: Namespace) -> int:
    link = node.link_status(options.name)
    screen.answer(link, lambda: _print_link(screen, link))
    return 0


def _print_link(screen: Screen, link: dict[str, Any]) -> None:
    screen.facts(
        [
            ("link", text(link, "name")),
            ("peer", text(link, "peer")),
            ("state", text(link, "state")),
            ("cause", text(link, "cause")),
            ("store", text(link, "store_state")),
            *([("takes no key", text(link, "no_room"))] if link.get("no_room") else []),
            *([("used names", text(link, "used_names"))] if link.get("used_names") else []),
            ("stored", size(link.get("stored_bytes", 0))),
            ("key rate", rate(link.get("key_rate_bps"))),
            ("load", f"{percent(link.get('load'))} of {rate(link.get('carries_bps'))}"),
            ("critical load", f"{percent(link.get('load_critical'))}, w {link.get('load_window', '-')}"),
            ("queue", f"{link.get('queued_packets', '-')} packets, mark {link.get('queue_mark_packets', '-')}"),
            ("delivered", size(link.get("delivered_key_bytes", 0))),
            ("log records", text(link, "log_records")),
            ("epoch", text(link, "epoch")),
            *([("strangers refused", text(link, "refused_connections"))] if link.get("refused_connections") else []),
        ]
    )
    for device in link.get("devices", []):
        alarm = f", alarm: {device['alarm']}" if device.get("alarm") else ""
        seen = f"{device.get('state')}, QBER {percent(device.get('qber'))}, {rate(device.get('rate_bps'))}{alarm}"
        screen.facts([(f"device {device.get('name')}", seen)])
    for title, counted, shown in (
        ("Key spent on", link.get("spent_bytes", {}), size),
        ("Dropped for", link.get("counters", {}), str),
    ):
        facts = [(name.replace("_", " "), shown(count)) for name, count in counted.items() if count]
        if facts:
            screen.line(f"\n{title}", "bold")
            screen.facts(facts)


def secret(screen: Screen, options: Namespace) -> int:
    """Needs neither a configuration nor a running unit: it is the first step at a new link."""
    from appliance.native import keymem, linksecret  # the C part is needed by this command alone

    keymem.harden_process()
    try:
        linksecret.make(options.out, options.bytes)
    except OSError as error:
        raise Failed(f"{options.out}: {error.strerror}") from None
    told = {"file": str(options.out), "bytes": options.bytes}

    def people() -> None:
        screen.line(
            f"{options.out} holds the secret of one link: a key for its first hello, {size(options.bytes)} of pad."
        )
        screen.line(
            "1. Carry it to the other site by a way that you trust, such as an encrypted stick in your own hand."
        )
        screen.line("2. Name it in both nodes' [[link]] as secret = \"...\", mode 0600, owned by the unit's user.")
        screen.line("3. Destroy the copy that you carried.")
        screen.line("It must be in no backup and no snapshot: key that comes back is key used twice.", BAD)

    screen.answer(told, people)
    return 0


def discard(node: Node, screen: Screen, options: Namespace) -> int:
    link = node.link_status(options.name)
    if link.get("state") != "quarantine" and link.get("store_state") != "quarantined":
        raise Failed(f"the store of link {options.name} is not quarantined: nothing was discarded")
    if not options.yes and not _confirmed(options.name, link):
        screen.line("Nothing was discarded.")
        return 1
    answer = node.ask("dataplane", "discard", link=options.name)
    count = size(answer.get("discarded_bytes", 0))
    screen.answer(
        answer, lambda: screen.line(f"Link {options.name}: {count} of key wiped. Discard it at the peer too.")
    )
    return 0


def _confirmed(name: str, link: dict[str, Any]) -> bool:
    if not sys.stdin.isatty():
        raise Failed("discarding asks for confirmation, and nobody is at the terminal", "--yes says that you mean it")
    print(f"This wipes {size(link.get('stored_bytes', 0))} of stored key of link {name}. It cannot be undone.")
    return input(f"Type the link's name to go on [{name}]: ").strip() == name
