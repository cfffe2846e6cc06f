"""status, links, store, routes, sessions, device: what the units say, in tables."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from appliance.cli.asking import Failed, Node, unit_name
from appliance.cli.output import BAD, Column, Row, Screen, age, percent, rate, size, text


def _alarms(row: Row) -> str:
    names = [f"{device['name']}: {device['alarm']}" for device in row.get("devices", []) if device.get("alarm")]
    return ", ".join(names) or "-"


def _state(row: Row) -> str:
    """A link whose ends talk but that carries no keys is not up for anybody."""
    return "down" if row.get("state") == "up" and row.get("usable") is False else text(row, "state")


def _print_links(screen: Screen, rows: Sequence[Row], empty: str) -> None:
    """The table, and why a link carries nothing: in full, however narrow the screen."""
    screen.table(LINKS, rows, empty)
    for row in rows:
        if row.get("cause"):
            screen.console.print(Text(f"{text(row, 'name')}: {row['cause']}", BAD))


UNITS: dict[str, Callable[[float], str]] = {"_bps": rate, "_s": age, "_km": lambda km: f"{km:g} km"}

LINKS = [
    Column("LINK", lambda row: text(row, "name")),
    Column("PEER", lambda row: text(row, "peer"), spare=2),
    Column("STATE", lambda row: _state(row)),
    Column("STORE", lambda row: text(row, "store_state")),
    Column("STORED", lambda row: size(row.get("stored_bytes", 0)), right=True, spare=1),
    Column("KEY RATE", lambda row: rate(row.get("key_rate_bps")), right=True, spare=1),
    Column("LOAD", lambda row: percent(row.get("load")), right=True, spare=2),
    Column("CRITICAL", lambda row: percent(row.get("load_critical")), right=True, spare=5),
    Column("QUEUED", lambda row: text(row, "queued_packets"), right=True, spare=6),
    Column("DELIVERED", lambda row: size(row.get("delivered_key_bytes", 0)), right=True, spare=4),
    Column("ALARMS", _alarms, spare=3),
]

STORE = [
    Column("LINK", lambda row: text(row, "name")),
    Column("STORE", lambda row: text(row, "store_state")),
    Column("STORED", lambda row: size(row.get("stored_bytes", 0)), right=True),
    Column("PICKUP", lambda row: size(row.get("pickup_bytes", 0)), right=True, spare=2),
    Column("COMMON", lambda row: size(row.get("common_bytes", 0)), right=True, spare=2),
    Column("OUT", lambda row: size(row.get("out_bytes", 0)), right=True, spare=1),
    Column("IN", lambda row: size(row.get("in_bytes", 0)), right=True, spare=1),
    Column("SPENT", lambda row: size(sum(row.get("spent_bytes", {}).values())), right=True, spare=3),
    Column("RECORDS", lambda row: text(row, "log_records"), right=True, spare=5),
    Column("EPOCH", lambda row: text(row, "epoch"), right=True, spare=6),
]

ROUTES = [
    Column("DESTINATION", lambda row: text(row, "prefix")),
    Column("LINK", lambda row: text(row, "link")),
    Column("COST", lambda row: text(row, "cost"), right=True),
    Column("USE", lambda row: text(row, "use")),
    Column("LOAD", lambda row: percent(row.get("load")), right=True, spare=1),
    Column("STATE", lambda row: text(row, "state"), spare=2),
]

SESSIONS = [
    Column("PORT", lambda row: text(row, "local_port"), right=True),
    Column("PEER", lambda row: text(row, "peer")),
    Column("PEER PORT", lambda row: text(row, "peer_port"), right=True),
    Column("STATE", lambda row: text(row, "state")),
    Column("DELIVERED", lambda row: text(row, "keys_delivered"), right=True, spare=1),
    Column("CONFIRMED", lambda row: text(row, "keys_confirmed"), right=True, spare=3),
    Column("PRIORITY", lambda row: text(row, "priority"), right=True, spare=5),
    Column("STOCK", lambda row: text(row, "stock"), right=True, spare=2),
    Column("CLIENT", lambda row: text(row, "client"), spare=4),
]

DEVICES = [
    Column("DEVICE", lambda row: text(row, "name")),
    Column("LINK", lambda row: text(row, "link"), spare=3),
    Column("STATE", lambda row: text(row, "state")),
    Column("QBER", lambda row: percent(row.get("qber")), right=True),
    Column("RATE", lambda row: rate(row.get("rate_bps")), right=True),
    Column("DISTANCE", lambda row: f"{row['distance_km']:g} km" if "distance_km" in row else "-", right=True, spare=6),
    Column("ALARMS", lambda row: ", ".join(row.get("alarms", [])) or "-"),
    Column("ACCEPTED", lambda row: text(row, "blocks_accepted"), right=True, spare=4),
    Column("PENDING", lambda row: text(row, "blocks_pending"), right=True, spare=5),
    Column("DATA PLANE", lambda row: text(row, "dataplane"), spare=7),
]


def status(node: Node, screen: Screen, options: Namespace) -> int:
    """0 when every unit answers, else 1."""
    devices = [f"device-{d.name}" for link in node.config.links for d in link.devices]
    units = ["dataplane", "keys", *(["routing"] if node.config.routed_links else []), *devices]
    answers = {unit: node.try_ask(unit, "status") for unit in units}
    silent = {unit: wrong for unit, (_, wrong) in answers.items() if wrong}
    found = {unit: answer for unit, (answer, _) in answers.items()}

    def people() -> None:
        _print_node(screen, node, found["dataplane"], found["keys"], found.get("routing"))
        screen.line()
        known = (found["dataplane"] or {}).get("links", [])
        _print_links(screen, known, "No links are known: the data plane is silent.")
        screen.line()
        screen.table(DEVICES, [found[u] for u in devices if found[u]], "No device answers.")
        if silent:
            screen.line()
        for unit, wrong in silent.items():
            screen.line(f"{wrong} Try: systemctl status {unit_name(unit)}", BAD)

    screen.answer({"units": found, "silent": silent}, people)
    return 1 if silent else 0


def _print_node(
    screen: Screen,
    node: Node,
    plane: dict[str, Any] | None,
    keys: dict[str, Any] | None,
    routing: dict[str, Any] | None,
) -> None:
    facts = [("node", f"{node.config.name}, {node.config.address}")]
    if plane:
        facts.append(("data plane", f"up {age(plane['uptime_s'])}, keys in {plane['memory']}, tags by {plane['hash']}"))
    if keys:
        used = f"{keys.get('shelf_used', 0)} of {keys.get('shelf_keys', 0)} places taken"
        facts.append(("keys", f"up {age(keys.get('uptime_s', 0))}, {used}, source {keys.get('source', '-')}"))
    if routing:
        adjacent = f"{routing['adjacent']} of {len(routing['links'])} links adjacent"
        registered = f"{routing['registrations']} applications registered in the network"
        facts.append(("routing", f"{adjacent}, {routing['destinations']} routes, {registered}"))
    screen.facts(facts)
    if routing and keys and not keys.get("registry", {}).get("connected", True):
        screen.line("qbb-keys has no connection to qbb-routing: no application is known by its name", BAD)
    for cause in routing["causes"] if routing else ():
        screen.line(cause, BAD)


def links(node: Node, screen: Screen, options: Namespace) -> int:
    rows = node.ask("dataplane", "status")["links"]
    screen.answer(rows, lambda: _print_links(screen, rows, "There are no links."))
    return 0


def store(node: Node, screen: Screen, options: Namespace) -> int:
    rows = node.ask("dataplane", "status")["links"]
    screen.answer(rows, lambda: screen.table(STORE, rows, "There are no links."))
    return 0


def routes(node: Node, screen: Screen, options: Namespace) -> int:
    answer = node.ask("dataplane", "routes")
    loads = {link["name"]: link for link in node.ask("dataplane", "status")["links"]}
    rows = [row for route in answer["routes"] for row in _ways(route, loads)]

    def people() -> None:
        screen.table(ROUTES, rows, "There are no routes.")
        screen.line(f"\nWhat finds all its links overloaded {_overload(answer)}.")

    screen.answer(answer, people)
    return 0


def _overload(answer: dict[str, Any]) -> str:
    if answer["overload"] == "drop":
        return "is dropped"
    preferred = f"link {answer['default_link']} if that leads there, else by " if answer["default_link"] else ""
    return f"is sent by {preferred}the first of them"


def _ways(route: dict[str, Any], links: dict[str, dict[str, Any]]) -> list[Row]:
    """A row per way; the destination stands in the first."""
    if route["local"]:
        return [{"prefix": route["prefix"], "link": "here"}]
    return [
        {
            "prefix": route["prefix"] if position == 0 else "",
            "link": way["link"],
            "cost": way["cost"],
            "use": "best" if position == 0 else "alternate" if way["loop_free"] else "never",
            "load": links.get(way["link"], {}).get("load"),
            "state": links.get(way["link"], {}).get("state"),
        }
        for position, way in enumerate(route["ways"])
    ]


def sessions(node: Node, screen: Screen, options: Namespace) -> int:
    rows = node.ask("keys", "sessions")["sessions"]
    screen.answer(rows, lambda: screen.table(SESSIONS, rows, "No session is open."))
    return 0


def device(node: Node, screen: Screen, options: Namespace) -> int:
    names = [device.name for link in node.config.links for device in link.devices]
    if options.name is None:
        rows = [node.ask(f"device-{name}", "status") for name in names]
        screen.answer(rows, lambda: screen.table(DEVICES, rows, "The node has no device."))
        return 0
    if options.name not in names:
        raise Failed(f"there is no device {options.name}", f"devices are {', '.join(names) or 'none'}")
    answer = node.ask(f"device-{options.name}", "status")
    screen.answer(answer, lambda: screen.facts([_fact(name, answer[name]) for name in answer]))
    return 0


def _fact(name: str, value: Any) -> tuple[str, str]:
    """Name and value for people: the unit moves from the name to the value."""
    if isinstance(value, list):
        return name, ", ".join(str(item) for item in value) or "none"
    for suffix, shown in UNITS.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix), shown(value)
    return name.replace("_", " "), percent(value) if name == "qber" else str(value)
