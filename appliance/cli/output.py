"""How answers look: tables for people, JSON for programs.

A table is cut to the screen by leaving out its least important columns, never by cutting values. Colour appears on a
terminal alone (and not with NO_COLOR, see no-color.org): the words say the same without it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160
GOOD, DOUBTFUL, BAD = "green", "yellow", "bold red"
COLOURS = {
    **dict.fromkeys(("up", "ready", "exchanging", "connected", "open", "established"), GOOD),
    **dict.fromkeys(("hello", "sync", "charging", "low", "alone", "starting", "opening"), DOUBTFUL),
    **dict.fromkeys(("qber", "no-light", "stalled"), BAD),
    **dict.fromkeys(("down", "exhausted", "quarantine", "quarantined", "no fibre", "absent", "closed"), BAD),
}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """`show` makes the cell from a row. The columns with the highest `spare` go first when the screen is narrow."""

    title: str
    show: Callable[[Row], str]
    right: bool = False
    spare: int = 0


@dataclass
class Screen:
    """Where answers go. `as_json` is the --json of the command line."""

    as_json: bool = False
    console: Console = field(default_factory=lambda: make_console())

    def answer(self, value: Any, people: Callable[[], None]) -> None:
        """The value as JSON, or what `people` prints."""
        if self.as_json:
            json.dump(value, sys.stdout, indent=2, sort_keys=True)
            sys.stdout.write("\n")
        else:
            people()

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style), soft_wrap=True)

    def facts(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, aligned."""
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.console.print(Text(f"  {name:<{width}}  ") + Text(value, COLOURS.get(value, "")), soft_wrap=True)

    def table(self, columns: Sequence[Column], rows: Sequence[Row], empty: str) -> None:
        if not rows:
            self.line(empty)
            return
        cells = {column.title: [column.show(row) for row in rows] for column in columns}
        shown = fitting(columns, cells, self.console.width)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in shown:
            table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True, overflow="ignore")
        for index in range(len(rows)):
            values = [cells[column.title][index] for column in shown]
            table.add_row(*(Text(value, COLOURS.get(value, "")) for value in values))
        # Wider than the screen where need be: a terminal folds lines, a cut value is lost.
        width = self.console.width
        self.console.width = max(width, taken(shown, cells))
        self.console.print(table, soft_wrap=True)
        self.console.width = width


def make_console() -> Console:
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(width=width, highlight=False, emoji=False, markup=False)


def fitting(columns: Sequence[Column], cells: Mapping[str, Sequence[str]], width: int) -> list[Column]:
    """The columns that stay. Those with spare 0 always do."""
    shown = list(columns)
    while taken(shown, cells) > width and any(column.spare for column in shown):
        shown.remove(max(reversed(shown), key=lambda column: column.spare))
    return shown


def taken(columns: Sequence[Column], cells: Mapping[str, Sequence[str]]) -> int:
    """Characters that a line of the table takes."""
    return sum(max(len(column.title), *map(len, cells[column.title])) + 2 for column in columns)


def size(count: float) -> str:
    """Bytes: 512 B, 4.0 KiB, 1.5 MiB."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024 or unit == "GiB":
            break
    return f"{count:.1f} {unit}"


def rate(bps: float | None) -> str:
    """Bits a second: 950 bit/s, 1.2 kbit/s."""
    if bps is None:
        return "-"
    for unit in ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"):
        if bps < 1000 or unit == "Gbit/s":
            break
        bps /= 1000
    return f"{bps:.0f} {unit}" if unit == "bit/s" else f"{bps:.1f} {unit}"


def percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def age(seconds: float) -> str:
    """12 s, 3 min, 2 h 5 min, 4 d 1 h."""
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"


def text(row: Row, name: str) -> str:
    """A field as text; "-" when it is missing or empty."""
    value = row.get(name)
    return "-" if value is None or value == "" else str(value)
