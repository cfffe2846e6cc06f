"""What the appliance's console shows, out of what was found out. Pure: no clock, no terminal.

It is drawn anew only when it changed: a serial line is slow, and a screen that stands still can be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from appliance.cli.output import BAD, COLOURS, DOUBTFUL, GOOD, size
from appliance.site.report import Report, Trouble

KEYS = "n node file   s secret   l log in"


@dataclass(frozen=True)
class Seen:
    """One look at the machine."""

    release: str
    machine: str
    addresses: Sequence[tuple[str, bool, Sequence[str]]] = ()  # interface, carrier, addresses
    report: Report | None = None  # None: appliance-site has not told yet
    links: Sequence[dict[str, Any]] | None = None  # None: the data plane does not answer
    health: str = ""
    alarms: Sequence[dict[str, Any]] = ()
    clock_right: bool = False
    starting: bool = False
    recovery_key: str = ""
    questions: Sequence[str] = ()  # what somebody must type: the recovery key
    failed: Sequence[str] = field(default=())
    appliance: bool = True  # booted from the image: there what is typed sets up the machine
    absent: Sequence[Trouble] = ()  # network cards


def frame(seen: Seen, width: int) -> RenderableType:
    return Group(*_parts(seen, width))


def _parts(seen: Seen, width: int) -> Iterator[RenderableType]:
    node = seen.report.node if seen.report is not None else ""
    yield Text.assemble((f"QBB appliance {seen.release}", "bold"), f"   {f'node {node}' if node else 'no node'}   ",
                        _state(seen))  # fmt: skip
    yield Text(f"Machine   {seen.machine}", overflow="fold")
    for name, carrier, addresses in seen.addresses:
        listed = ", ".join(addresses) or "no address"
        yield Text.assemble(f"{name:<9} {listed}  ", ("up", GOOD) if carrier else ("unplugged", BAD))
    yield Text.assemble("Clock     ", ("synchronised", GOOD) if seen.clock_right else ("not synchronised", DOUBTFUL))
    yield Text()
    if node:
        yield _links(seen, width)
        yield Text()
    yield from _alarms(seen)
    for trouble in (*(seen.report.troubles if seen.report is not None else ()), *seen.absent):
        yield Text(f"! {trouble.what}", BAD)
        yield Text(f"  {trouble.remedy}.")
    for unit in seen.failed:
        yield Text.assemble((f"! {unit} failed", BAD), f"  journalctl -u {unit}")
    for question in seen.questions:
        yield Text.assemble((f"? {question}", DOUBTFUL), "  key u to answer")
    if seen.recovery_key:
        yield Text.assemble(("Recovery key of this machine's /var: ", "bold"), (seen.recovery_key, "bold yellow"))
        yield Text("Write it down and keep it safe, then press r. Until then each start makes another one.")
    yield Text()
    more = "   u unlock" if seen.questions else ""
    more += "   r I have the recovery key" if seen.recovery_key else ""
    yield Text(KEYS + more if seen.appliance else "q quit", "dim")


def _state(seen: Seen) -> tuple[str, str]:
    if seen.starting and not seen.health:
        return "starting", DOUBTFUL
    if not seen.health:
        return "not running", BAD
    return seen.health, {"good": GOOD, "degraded": DOUBTFUL}.get(seen.health, BAD)


def _links(seen: Seen, width: int) -> RenderableType:
    if seen.links is None:
        return Text("The data plane does not answer.", BAD)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", width=min(width, 100))
    for title in ("LINK", "STATE", "STORE", "STORED", "WHY"):
        table.add_column(title, no_wrap=title != "WHY")
    for link in seen.links:
        state = "stopped" if link["state"] == "up" and not link.get("usable", True) else str(link["state"])
        table.add_row(
            str(link["name"]),
            Text(state, COLOURS.get(state, BAD)),
            Text(str(link["store_state"]), COLOURS.get(str(link["store_state"]), DOUBTFUL)),
            size(int(link.get("stored_bytes", 0)) // 1024 * 1024),
            str(link.get("cause") or ""),
        )
    return table


def _alarms(seen: Seen) -> Iterator[RenderableType]:
    for alarm in seen.alarms:
        yield Text(f"! {alarm['alarm']} {alarm['about']}: {alarm['text']}", BAD)
