"""alarms: what is wrong at the node now, and since when."""

from __future__ import annotations

from argparse import Namespace

from appliance.cli.asking import Node
from appliance.cli.output import BAD, DOUBTFUL, GOOD, Column, Screen, age, text

ALARMS = [
    Column("ALARM", lambda row: text(row, "alarm")),
    Column("ABOUT", lambda row: text(row, "about")),
    Column("LINK", lambda row: text(row, "link"), spare=2),
    Column("FOR", lambda row: age(row.get("age_s", 0)), right=True, spare=1),
    Column("WHAT", lambda row: text(row, "text")),
]


def alarms(node: Node, screen: Screen, options: Namespace) -> int:
    """0 when none stands, else 1."""
    status = node.ask("monitor", "status")
    rows = status["alarms"]

    def people() -> None:
        style = {"good": GOOD, "degraded": DOUBTFUL}.get(status["health"], BAD)
        screen.line(f"Health of node {status['node']}: {status['health']}.", style)
        if rows:
            screen.line()
            screen.table(ALARMS, rows, "")

    screen.answer(status, people)
    return 1 if rows else 0
