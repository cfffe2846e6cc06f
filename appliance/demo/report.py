"""The tables at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from appliance.cli.output import size
from appliance.demo.account import BY_ITSELF, FOR_KEYS, Log, Spent, per_byte
from appliance.demo.screen import joined
from appliance.demo.traffic import Outcome, percentile


@dataclass(frozen=True)
class Phase:
    """Sessions of one kind, and the key that the links spent meanwhile."""

    title: str
    outcome: Outcome
    spent: Spent


def duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.01 else f"{1e3 * seconds:.1f} ms"


def spending(phases: Sequence[Phase]) -> Table:
    """Per hop, and by cause."""
    named = {**FOR_KEYS, **BY_ITSELF}
    used = [cause for cause in named if any(phase.spent[link][cause] for phase in phases for link in phase.spent)]
    table = _table("Key bytes spent per key byte carried, by hop", "", *map(named.get, used), "all")
    for phase in phases:
        table.add_row(phase.title, style="dim")
        for link, causes in phase.spent.items():
            each = [f"{per_byte(causes, [cause]):.2f}" for cause in used]
            table.add_row(f"  {joined(link)}", *each, f"{per_byte(causes, named):.2f}")
    return table


def latencies(outcomes: Mapping[str, Outcome]) -> Table:
    table = _table("How long an application waits", "", *outcomes)
    for words, times in (("for a key", Outcome.keys_s), ("for TLS 1.3", Outcome.handshakes_s)):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            cells = [duration(percentile(times(each), share)) for each in outcomes.values()]
            table.add_row(f"{words}, {name}", *cells)
    return table


def balance(done: Iterable[Outcome], others: int, logs: Iterable[Log]) -> Table:
    """`others`: keys of the applications that are no TLS."""
    done, logs = list(done), list(logs)
    table = _table("In all", "", "")
    table.show_header = False
    table.add_row(
        "TLS 1.3 sessions, each with a key of its own, equal at both ends",
        str(sum(len(each.sessions) for each in done)),
    )
    table.add_row("sessions that failed, requests that were refused", str(sum(each.failed for each in done)))
    table.add_row("keys of other applications, compared at both ends", str(others))
    table.add_row("key that the fibres of the square brought", size(sum(log.stored for log in logs)))
    table.add_row("given up with the relay: open then, never used again", size(sum(log.given_up for log in logs)))
    return table


def _table(title: str, *columns: str | None) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.header_style = "dim"
    for number, column in enumerate(columns):
        table.add_column(column or "", justify="left" if number == 0 else "right", no_wrap=number > 0)
    return table
