"""QBB1's extended routing table, as its routing unit computed it, beside Table I of the paper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from appliance.cli.output import BAD

BY_QBB2, BY_QBB3 = "qbb1-qbb2", "qbb1-qbb3"


@dataclass(frozen=True)
class Row:
    """`printed`: cost and way in Table I. `by_qbb2`, `by_qbb3`: what is right (paper 2.5.2, Table III); None where
    nothing is sent. `last_step`: a node's own network costs 1 in OSPF and 0 in the paper."""

    name: str
    destination: str
    printed: str
    by_qbb2: int | None
    by_qbb3: int | None
    last_step: int = 0
    note: str = ""

    @property
    def right(self) -> dict[str, int]:
        costs = {BY_QBB2: self.by_qbb2, BY_QBB3: self.by_qbb3}
        return {link: cost + self.last_step for link, cost in costs.items() if cost is not None}


ROWS = (
    Row("N1", "1.1.0.0/30", "0 local", None, None),
    Row("N2", "1.1.0.4/30", "6 QBB2", 6, 10, 1),
    Row("N3", "1.1.0.8/30", "7 QBB3", 12, 7, 1),
    Row("N4", "1.1.0.12/30", "9 QBB3", 10, 9, 1),
    Row("QBB2", "1.1.0.5", "6 QBB2", 6, 10),
    Row("QBB3", "1.1.0.9", "7 QBB3", 12, 7),
    Row("QBB4", "1.1.0.13", "9 QBB3", 10, 9),
    Row("NA2", "1.2.0.0/16", "12 QBB3", 13, 12),
    Row("NA3", "1.3.0.0/16", "19 QBB3", 20, 19),
    Row("NA4", "1.4.0.0/16", "16 QBB3", 18, 17, note="a misprint: 9 + 8 = 17"),
    Row("NA5", "1.5.0.0/16", "11 QBB3", 12, 11),
)
LOCAL = ROWS[0]

Routes = dict[str, dict[str, Any]]


def costs(routes: Routes, row: Row) -> dict[str, int]:
    """By link, as the routing unit has them; empty when there is no route, or it is the node's own network."""
    route = routes.get(row.destination, {"local": False, "entries": ()})
    return {} if route["local"] else {entry["link"]: entry["cost"] for entry in route["entries"]}


def wrong(routes: Routes) -> Iterator[str]:
    """What differs from what must come out."""
    for row in ROWS:
        found = costs(routes, row)
        if row.destination not in routes:
            yield f"{row.name}: no route"
        elif found != row.right:
            yield f"{row.name}: {found} instead of {row.right}"
        elif found and not all(entry["loop_free"] for entry in routes[row.destination]["entries"]):
            yield f"{row.name}: a way that may loop"


def table(routes: Routes) -> Table:
    made = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    made.add_column("to")
    made.add_column("address", style="dim")
    for title in ("Table I", "by QBB2", "by QBB3"):
        made.add_column(title, justify="right", no_wrap=True)
    made.add_column("")
    for row in ROWS:
        found = costs(routes, row)
        best = min(found.values(), default=None)
        cells = [_cell(row, found.get(link), best) for link in (BY_QBB2, BY_QBB3)]
        if row is LOCAL:
            cells = [Text(""), Text("local", "bold")] if row.destination in routes else [Text(""), Text("none", BAD)]
        made.add_row(row.name, row.destination, row.printed, *cells, row.note)
    return made


def _cell(row: Row, cost: int | None, best: int | None) -> Text:
    """The cost that decides is marked."""
    if cost is None:
        return Text("none", BAD)
    words = f"{cost - row.last_step}+{row.last_step}" if row.last_step else str(cost)
    return Text(f"> {words}" if cost == best else words, "bold green" if cost == best else "")
