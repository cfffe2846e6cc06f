"""What `qbb top` shows, out of what the units answered. Pure: no clock, no terminal.

A frame has the width of the screen; names and alarms take what the numbers leave. Bars are logarithmic: empty at
1 KiB of stored key, each further cell stands for four times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.cli.output import BAD, COLOURS, DOUBTFUL, GOOD

BAR_CELLS = 8
EMPTY_BYTES = 1024
EIGHTHS = " ▏▎▍▌▋▊▉█"
STEPS = ("", "k", "M", "G", "T")


@dataclass(frozen=True)
class LinkView:
    name: str
    state: str
    store: str
    stored_bytes: int
    made_bps: float
    spent_bps: float | None  # None: not measured yet
    load: float | None
    trouble: str
    up: bool


@dataclass(frozen=True)
class NodeView:
    """`silent`: units that do not answer."""

    name: str
    address: str
    links: tuple[LinkView, ...]
    sessions: int
    keys_held: int
    silent: tuple[str, ...] = ()

    @property
    def up(self) -> int:
        return sum(link.up for link in self.links)

    @property
    def trouble(self) -> str:
        silent = [f"{unit} is silent" for unit in self.silent]
        return ", ".join(silent + [f"{link.name} {link.trouble}" for link in self.links if link.trouble])

    def total(self) -> LinkView:
        """All links in one line."""
        spent = [link.spent_bps for link in self.links if link.spent_bps is not None]
        loads = [link.load for link in self.links if link.load is not None]
        return LinkView(
            self.name,
            f"{self.up}/{len(self.links)}",
            min((link.store for link in self.links), key=_worst, default=""),
            sum(link.stored_bytes for link in self.links),
            sum(link.made_bps for link in self.links),
            sum(spent) if spent else None,
            max(loads, default=None),
            self.trouble,
            self.up == len(self.links),
        )


def _worst(store: str) -> int:
    order = ("quarantined", "exhausted", "charging", "low", "ready")
    return order.index(store) if store in order else 0


@dataclass
class Meter:
    """Turns counters into rates: key spent between two looks."""

    _before: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def spent_bps(self, now_s: float, node: str, link: str, spent_bytes: int) -> float | None:
        """None at the first look, and after a restart, when the counter begins anew."""
        before = self._before.get((node, link))
        self._before[node, link] = now_s, spent_bytes
        if before is None or spent_bytes < before[1] or now_s <= before[0]:
            return None
        return 8 * (spent_bytes - before[1]) / (now_s - before[0])


def node_view(name: str, now_s: float, meter: Meter, answers: dict[str, Any]) -> NodeView:
    """`answers`: of "dataplane" and "keys" to status, and of "sessions"; None where there was none."""
    plane, keys, sessions = answers["dataplane"] or {}, answers["keys"] or {}, answers["sessions"] or {}
    links = []
    for link in plane.get("links", ()):
        spent = meter.spent_bps(now_s, name, link["name"], sum(link.get("spent_bytes", {}).values()))
        links.append(_link_view(link, spent))
    silent = tuple(unit for unit in ("dataplane", "keys") if answers[unit] is None)
    address = plane.get("address") or "-"
    return NodeView(name, address, tuple(links), len(sessions.get("sessions", ())), keys.get("shelf_used", 0), silent)


def _link_view(link: dict[str, Any], spent_bps: float | None) -> LinkView:
    """A link may be up and carry nothing: for an alarm, or for want of key."""
    up = bool(link.get("usable", link["state"] == "up"))
    return LinkView(
        link["name"],
        "stopped" if link["state"] == "up" and not up else link["state"],
        link["store_state"],
        int(link.get("stored_bytes", 0)),
        float(link.get("key_rate_bps") or 0),
        spent_bps,
        link.get("load"),
        _alarms(link.get("devices", ())) or ("" if up else link.get("cause") or f"store {link['store_state']}"),
        up,
    )


def _alarms(devices: Sequence[dict[str, Any]]) -> str:
    """Of several devices also which."""
    which = "{name} {alarm}" if len(devices) > 1 else "{alarm}"
    return ", ".join(which.format(**device) for device in devices if device.get("alarm"))


def short(number: float | None) -> str:
    """950, 12.3k, 123k, 4.5M; four characters and a letter at most."""
    if number is None:
        return "-"
    step = 0
    while number >= 999.5 and step < len(STEPS) - 1:
        number /= 1000
        step += 1
    return f"{number:.1f}{STEPS[step]}" if step and number < 99.95 else f"{number:.0f}{STEPS[step]}"


def bar(stored_bytes: int) -> str:
    filled = math.log(max(stored_bytes, EMPTY_BYTES) / EMPTY_BYTES, 4)
    eighths = min(round(8 * filled), 8 * BAR_CELLS)
    whole, rest = divmod(eighths, 8)
    return (EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")).ljust(BAR_CELLS, "·")


def fitting(nodes: Sequence[NodeView], room: int) -> bool:
    """Is there room for a line of each link?"""
    return sum(1 + len(node.links) for node in nodes) <= room


def rows(nodes: Sequence[NodeView], with_links: bool) -> list[tuple[LinkView, str]]:
    """A line each, with how much it is indented; for a lab also a line for each node."""
    if len(nodes) == 1:
        return [(link, "") for link in nodes[0].links]
    return list(_nested(nodes, with_links))


def _nested(nodes: Sequence[NodeView], with_links: bool) -> Iterator[tuple[LinkView, str]]:
    for node in nodes:
        yield node.total(), ""
        if with_links:
            for link in node.links:
                yield link, "  "


def table(lines: Sequence[tuple[LinkView, str]], width: int, first: str) -> Table:
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", width=width)
    made.add_column(first, no_wrap=True, min_width=12, max_width=26, overflow="ellipsis")
    made.add_column("STATE", no_wrap=True)
    made.add_column("STORE", no_wrap=True, min_width=BAR_CELLS)
    for title in ("STORED", "KEY/s", "SPENT/s", "LOAD"):
        made.add_column(title, justify="right", no_wrap=True, min_width=6)
    made.add_column("TROUBLE", no_wrap=True, ratio=1, overflow="ellipsis")
    for line, indent in lines:
        state = GOOD if line.up else COLOURS.get(line.state, BAD)
        load = "-" if line.load is None else f"{100 * line.load:.0f} %"
        made.add_row(
            Text(indent + line.name, "" if indent else "bold"),
            Text(line.state, state),
            Text(bar(line.stored_bytes), COLOURS.get(line.store, DOUBTFUL)),
            *(short(number) for number in (line.stored_bytes, line.made_bps, line.spent_bps)),
            load,
            Text(line.trouble, BAD),
        )
    return made


def title(what: str, nodes: Sequence[NodeView], clock: str) -> Text:
    ends, up = sum(len(node.links) for node in nodes), sum(node.up for node in nodes)
    silent = sum(1 for node in nodes if node.silent)
    words = [(f"{what}  ", "bold")]
    words += [(f"{len(nodes)} nodes  ", "")] if len(nodes) > 1 else [(f"{nodes[0].address}  ", "")]
    words += [(f"{up} of {ends} {'ends of links' if len(nodes) > 1 else 'links'} up", GOOD if up == ends else BAD)]
    words += [(f"  {silent} silent", BAD)] if silent else []
    return Text.assemble(*words, (f"  {clock}", "dim"), no_wrap=True, overflow="ellipsis")


def totals(nodes: Sequence[NodeView]) -> Text:
    """A link's two ends hold, make and spend the same key: of a lab, half of what all ends say."""
    every = [node.total() for node in nodes]
    share = 2 if len(nodes) > 1 else 1
    stored = sum(line.stored_bytes for line in every) / share
    made = sum(line.made_bps for line in every) / share
    spent = [line.spent_bps for line in every if line.spent_bps is not None]
    return Text.assemble(
        ("all  ", "bold"),
        f"stored {_quantity(stored, 'B')}  key {_quantity(made, 'bit/s')}  ",
        f"spent {_quantity(sum(spent) / share if spent else None, 'bit/s')}  ",
        f"sessions {sum(node.sessions for node in nodes)}  keys held {sum(node.keys_held for node in nodes)}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _quantity(number: float | None, unit: str) -> str:
    words = short(number)
    return f"{words[:-1]} {words[-1]}{unit}" if words[-1] in STEPS else f"{words} {unit}"
