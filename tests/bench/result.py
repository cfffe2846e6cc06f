"""A row of the benchmark, the table for people, JSON for programs."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PAPER_COLUMNS = 170  # of a table that goes to a file


class Sense(Enum):
    """On which side of its target a ratio is good."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True)
class Quantity:
    """A median and its unit."""

    value: float
    unit: str

    def __str__(self) -> str:
        value = abs(self.value)
        text = f"{self.value:,.0f}" if value >= 1000 else f"{self.value:.3g}"
        return f"{text} {self.unit}".strip()


@dataclass(frozen=True)
class Row:
    """`reference`: what stands beside the measured thing, by name and version. Without a target nothing can be missed.
    `turns`: how many times both were measured. `remark`: what to know when the target is missed."""

    name: str
    measured: Quantity
    reference: str
    beside: Quantity | None = None
    ratio: float | None = None
    target: float | None = None
    sense: Sense = Sense.AT_LEAST
    turns: int = 1
    notes: dict[str, Any] = field(default_factory=dict)
    remark: str = ""

    @property
    def passed(self) -> bool | None:
        if self.ratio is None or self.target is None:
            return None
        return self.ratio >= self.target if self.sense is Sense.AT_LEAST else self.ratio <= self.target

    @property
    def wanted(self) -> str:
        if self.target is None:
            return ""
        return f"{'≥' if self.sense is Sense.AT_LEAST else '≤'} {self.target:g}"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "sense": self.sense.value, "passed": self.passed}


@dataclass(frozen=True)
class Skipped:
    """A benchmark that this machine cannot run, and why."""

    name: str
    why: str


def turns_of(name: str, pairs: Sequence[tuple[float, float]], unit: str, reference: str, **more: Any) -> Row:
    """A row from turns of (measured, beside)."""
    measured, beside = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    here, there = Quantity(statistics.median(measured), unit), Quantity(statistics.median(beside), unit)
    return Row(name, here, reference, there, ratio, turns=len(pairs), **more)


def table(rows: Sequence[Row], skipped: Sequence[Skipped]) -> None:
    shown = Table(title=f"{processor()}, Linux {platform.release()}, Python {platform.python_version()}")
    for heading in ("what", "measured", "beside", "reference", "ratio", "target", ""):
        right = heading in ("measured", "beside", "ratio", "target")
        shown.add_column(heading, justify="right" if right else "left", no_wrap=right)
    words = {True: "[green]pass[/]", False: "[bold red]MISS[/]", None: ""}
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        beside = "" if row.beside is None else str(row.beside)
        shown.add_row(row.name, str(row.measured), beside, row.reference, ratio, row.wanted, words[row.passed])
    for one in skipped:
        shown.add_row(one.name, "", "", f"not run: {one.why}", "", "", "[yellow]skipped[/]")
    console = Console()
    if not console.is_terminal:
        console = Console(width=PAPER_COLUMNS)
    console.print(shown)
    missed = [row for row in rows if row.passed is False]
    for row in missed:
        console.print(f"[bold red]missed:[/] {row.name}" + (f" ({row.remark})" if row.remark else ""), soft_wrap=True)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def write_json(path: Path, rows: Sequence[Row], skipped: Sequence[Skipped], failed: Sequence[Skipped]) -> None:
    machine = {"processor": processor(), "machine": platform.machine(), "kernel": platform.release()}
    content = {
        "machine": {**machine, "python": platform.python_version()},
        "rows": [row.as_json() for row in rows],
        "skipped": [asdict(one) for one in skipped],
        "failed": [asdict(one) for one in failed],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
