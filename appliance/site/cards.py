"""Network cards that the node file names and the machine does not have.

Whoever shows it looks anew each time: cards come and get their names while the machine starts, some of them after
appliance-site ran.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from appliance.site.report import Trouble

LIST = ("ip", "-json", "link")


def absent(wanted: Iterable[str], listed: str) -> Iterator[Trouble]:
    """`wanted`: by device or mac. `listed`: what LIST says."""
    there = [card for card in json.loads(listed or "[]") if card["link_type"] == "ether"]
    known = {word for card in there for word in _words(card)}
    has = ", ".join(f"{card['ifname']} ({card['address']})" for card in there) or "none"
    for card in wanted:
        if card not in known:
            yield Trouble(
                f"There is no network card {card}, which the node file names",
                f"Mend device or mac of its interface in the node file, or put the card in. This machine has: {has}",
            )


def _words(card: dict[str, Any]) -> tuple[str, ...]:
    """What systemd-networkd would find it by."""
    return (card["ifname"], card["address"], *card.get("altnames", ()))
