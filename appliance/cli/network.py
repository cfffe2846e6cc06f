"""network, registrations: what the routing unit knows of the network."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from appliance.cli.asking import Node
from appliance.cli.output import BAD, Column, Row, Screen, text
from appliance.keys.policy import SATYPE_NAMES

NETWORK = [
    Column("DESTINATION", lambda row: text(row, "destination")),
    Column("PATH", lambda row: text(row, "path"), spare=2),
    Column("AREA", lambda row: text(row, "area"), spare=3),
    Column("LINK", lambda row: text(row, "link")),
    Column("NEXT HOP", lambda row: text(row, "next_hop"), spare=1),
    Column("COST", lambda row: text(row, "cost"), right=True),
    Column("USE", lambda row: text(row, "use")),
]

REGISTRATIONS = [
    Column("NAME", lambda row: text(row, "name")),
    Column("NODE", lambda row: text(row, "address")),
    Column("PORT", lambda row: text(row, "port"), right=True),
    Column("KIND", lambda row: SATYPE_NAMES.get(row.get("kind", 0), text(row, "kind")), spare=2),
    Column("PUBLIC ADDRESS", lambda row: text(row, "public"), spare=1),
    Column("COST", lambda row: "unreachable" if row.get("cost") is None else text(row, "cost"), right=True),
]


def network(node: Node, screen: Screen, options: Namespace) -> int:
    answer = node.ask("routing", "routes")
    causes = node.ask("routing", "status")["causes"]
    chosen = [route for route in answer["routes"] if options.nodes or route["kind"] == "network"]

    def people() -> None:
        screen.table(NETWORK, [row for route in chosen for row in _rows(route)], "No routes are known.")
        if answer["hold"]:
            screen.line("\nThe network changed a moment ago: best paths only.")
        for cause in causes:
            screen.line(cause, BAD)

    screen.answer({**answer, "routes": chosen, "causes": causes}, people)
    return 0


def _rows(route: Row) -> list[dict[str, Any]]:
    if route["local"]:
        return [{**route, "use": "local"}]
    return [{**route, **entry, "use": _use(entry)} for entry in route["entries"]]


def _use(entry: Row) -> str:
    if entry["best"]:
        return "best"
    return "alternate" if entry["loop_free"] else "-"


def registrations(node: Node, screen: Screen, options: Namespace) -> int:
    answer = node.ask("routing", "registrations")
    rows = sorted(answer["registrations"], key=lambda row: (row["name"], row["address"], row["port"]))
    screen.answer(answer, lambda: screen.table(REGISTRATIONS, rows, "Nothing is registered."))
    return 0
