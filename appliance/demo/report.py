"""The tables at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from appliance.cli.output import size
from appliance.demo.account import CAUSES, Log
from appliance.demo.traffic import Outcome, percentile

KEY_BYTES = 32


@dataclass(frozen=True)
class Phase:
    """Sessions of one kind and the key that the link spent meanwhile."""

    title: str
    outcome: Outcome
    spent: Counter[str]

    def per_byte(self, cause: str) -> float:
        return self.spent[cause] / max(1, KEY_BYTES * len(self.outcome.sessions))


def duration(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def latencies(phases: list[Phase]) -> Table:
    table = _table("How long an application waits", "", *(phase.title for phase in phases))
    for words, share in (("half of the keys within", 0.5), ("99 of 100 keys within", 0.99)):
        table.add_row(words, *(duration(percentile(phase.outcome.keys_s(), share)) for phase in phases))
    for words, share in (("half of the TLS handshakes within", 0.5), ("99 of 100 within", 0.99)):
        times = [sorted(session.handshake_s for session in phase.outcome.sessions) for phase in phases]
        table.add_row(words, *(duration(percentile(each, share)) for each in times))
    return table


def spending(phases: list[Phase]) -> Table:
    table = _table("Key bytes from the fibres per key byte delivered", "", *(phase.title for phase in phases))
    for cause, words in CAUSES.items():
        if any(phase.spent[cause] for phase in phases):
            table.add_row(words, *(f"{phase.per_byte(cause):.2f}" for phase in phases))
    table.add_section()
    table.add_row("all together", *(f"{sum(map(phase.per_byte, CAUSES)):.2f}" for phase in phases), style="bold")
    return table


def balance(phases: list[Phase], others: list[Outcome], log: Log) -> Table:
    done = [*(phase.outcome for phase in phases), *others]
    count = sum(len(outcome.sessions) for outcome in done)
    table = _table("In all", "", "")
    table.show_header = False
    table.add_row("TLS sessions, each under a key of its own that was equal at both ends", str(count))
    table.add_row("requests refused while the link was down, with the reason", str(sum(len(o.refusals) for o in done)))
    table.add_row("key delivered to applications", size(KEY_BYTES * count))
    table.add_row("key that the fibres brought into the common store", size(log.stored))
    table.add_row("given up at restarts: key that was open, never used again", size(log.given_up))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 3, 0, 2))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", min_width=58 if number == 0 else 14)
    return table


def show(console: Console, tables: list[Table]) -> None:
    for table in tables:
        console.print()
        console.print(table)
