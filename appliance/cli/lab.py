"""lab: a network in namespaces of this machine, made, watched, disturbed and removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from appliance.cli.asking import Failed
from appliance.cli.output import BAD, GOOD, Column, Screen, percent, rate, size, text
from appliance.configuration import values
from appliance.configuration.errors import ConfigurationErrors, WrongValue
from appliance.lab import file, namespaces, record, starting
from appliance.lab.model import LabFile
from appliance.lab.record import Recorded
from appliance.services.control import NoAnswer, Refused

STAGES = {"nodes": "namespaces", "links": "wires and fibres", "units": "units", "up": "links and routes"}
MOST_TOLD = 20


# Which lab ------------------------------------------------------------------------------------------------------------


def load(path: Path) -> LabFile:
    """Raises Failed with every problem."""
    try:
        return file.load(path)
    except ConfigurationErrors as errors:
        raise Failed("\n".join(str(problem) for problem in errors.problems)) from None


def lab_name(words: str) -> str:
    """By its file, or by its name alone. Raises Failed."""
    if Path(words).is_file():
        return load(Path(words)).name
    if values.NAME.fullmatch(words) and record.place(words).exists():
        return words
    listed = ", ".join(record.names()) or "none"
    raise Failed(f"{words} is neither a lab file nor a running lab", f"running labs are: {listed}")


def running(words: str) -> Recorded:
    """Raises Failed."""
    name = lab_name(words)
    found = record.read(name)
    if found is None or not found.alive:
        left = record.place(name).exists()
        hint = f"qbb lab down {words} removes what it left" if left else f"qbb lab up {words} starts it"
        raise Failed(f"lab {name} {'died' if left else 'does not run'}", hint)
    return found


def command(found: Recorded, word: str, **arguments: Any) -> Any:
    """Raises Failed."""
    try:
        return starting.keeper_ask(found.name, word, **arguments)
    except NoAnswer as silent:
        raise Failed(f"lab {found.name} does not answer: {silent}", "is it still starting?") from None
    except Refused as refused:
        raise Failed(str(refused)) from None


# up and down ----------------------------------------------------------------------------------------------------------


def up(screen: Screen, options: Namespace) -> int:
    """Returns when all links are up. 1 when they are not within the limit: the lab stays, to be looked at."""
    lab = load(options.file)
    try:
        starting.check(lab)
        if record.end(lab.name):
            print(f"qbb: removed what lab {lab.name} had left", file=sys.stderr)
        began_s = time.monotonic()
        missing = _start(lab, options.file, began_s + options.timeout)
    except starting.CannotStart as cannot:
        raise Failed(str(cannot), cannot.hint) from None
    took_s = time.monotonic() - began_s
    _tell_up(screen, lab, missing, took_s)
    return 1 if missing else 0


def _start(lab: LabFile, path: Path, until_s: float) -> starting.Missing:
    with starting.starting(lab, path) as keeper:
        try:
            with _bars() as tell:
                starting.build(keeper, tell)
                return starting.wait(lab, tell, until_s)
        except BaseException:
            with contextlib.suppress(KeyboardInterrupt):
                print(f"qbb: removing lab {lab.name}", file=sys.stderr)
            raise


def _tell_up(screen: Screen, lab: LabFile, missing: starting.Missing, took_s: float) -> None:
    told = {
        "name": lab.name,
        "nodes": len(lab.nodes),
        "links": len(lab.links),
        "seconds": round(took_s, 2),
        "missing": [{"node": node, "what": what, "why": why} for (node, what), why in missing.items()],
    }

    def people() -> None:
        if missing:
            links = sum(what != "routes" for _, what in missing)
            of = f"{links} of {2 * len(lab.links)} ends of links" if links else f"routes of {len(missing)} nodes"
            screen.line(f"Lab {lab.name}: {of} are not up after {took_s:.0f} s:", BAD)
            for (node, what), why in list(missing.items())[:MOST_TOLD]:
                screen.line(f"  {node}, {what}: {why}")
            if len(missing) > MOST_TOLD:
                screen.line(f"  and {len(missing) - MOST_TOLD} more")
            screen.line("It stays, to be looked at: qbb lab status, qbb lab down.")
        else:
            screen.line(f"Lab {lab.name}: {len(lab.nodes)} nodes, {len(lab.links)} links up in {took_s:.1f} s.", GOOD)

    screen.answer(told, people)


@contextlib.contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each stage, on a terminal; a line for each where standard error is none."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description:<17}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    tasks: dict[str, Any] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(STAGES[stage], total=total)
                if not console.is_terminal:
                    print(f"{STAGES[stage]} ...", file=sys.stderr)
            progress.update(tasks[stage], completed=done, total=total)

        yield tell


def down(screen: Screen, options: Namespace) -> int:
    """Also what a crashed run left. Nothing there is no error."""
    name = load(Path(options.lab)).name if Path(options.lab).is_file() else options.lab
    if not values.NAME.fullmatch(name):
        raise Failed(f"{options.lab} is neither a lab file nor a lab's name")
    ended = record.end(name)
    words = f"Lab {name} is removed." if ended else f"There is no lab {name}."
    screen.answer({"name": name, "removed": ended}, lambda: screen.line(words))
    return 0


# status ---------------------------------------------------------------------------------------------------------------

NODES = [
    Column("NODE", lambda row: text(row, "name")),
    Column("ADDRESS", lambda row: text(row, "address"), spare=3),
    Column("LINKS UP", lambda row: f"{row['links_up']} of {row['links']}", right=True),
    Column("STORED", lambda row: size(row["stored_bytes"]), right=True, spare=1),
    Column("KEY RATE", lambda row: rate(row["key_rate_bps"]), right=True, spare=2),
    Column("NOT RUNNING", lambda row: ", ".join(row["not_running"]) or "-"),
    Column("NOT UP", lambda row: ", ".join(row["not_up"]) or "-", spare=1),
]


def status(screen: Screen, options: Namespace) -> int:
    """0 when all units run and all links are up, else 1."""
    found = running(options.lab)
    kept = command(found, "status")
    rows = [_node_row(found, name, units) for name, units in kept["nodes"].items()]
    fibres = [name for name, state in kept["fibres"].items() if state["pid"] is None]
    well = not fibres and all(not row["not_running"] and not row["not_up"] for row in rows)
    told = {"name": found.name, "file": found.file, "nodes": rows, "dead_fibres": fibres, "keeper": found.keeper}

    def people() -> None:
        screen.facts([("lab", found.name), ("file", found.file), ("keeper", f"process {found.keeper}")])
        screen.line()
        screen.table(NODES, rows, "There are no nodes.")
        if fibres:
            screen.line(f"\nFibres that do not run: {', '.join(fibres)}", BAD)

    screen.answer(told, people)
    return 0 if well else 1


def _node_row(found: Recorded, name: str, units: dict[str, Any]) -> dict[str, Any]:
    links: list[dict[str, Any]] = []
    address = None
    with contextlib.suppress(NoAnswer, Refused):
        answer = starting.node_ask(found, name, "dataplane", "status")
        links, address = answer["links"], answer["address"]
    return {
        "name": name,
        "address": address,
        "links": len(links),
        "links_up": sum(link["usable"] for link in links),
        "stored_bytes": sum(link["stored_bytes"] for link in links),
        "key_rate_bps": sum(link["key_rate_bps"] for link in links),
        "not_running": [unit for unit, state in units.items() if state["pid"] is None],
        "not_up": [link["name"] for link in links if not link["usable"]],
        "units": units,
    }


# Faults ---------------------------------------------------------------------------------------------------------------


CUT = {"wire": "the classical channel is", "fibre": "the fibres are", "cable": "classical channel and fibres are"}


def cut(screen: Screen, options: Namespace) -> int:
    what = "wire" if options.wire else "fibre" if options.fibre else "cable"
    answer = command(running(options.lab), "cut", link=options.link, what=what)
    screen.answer(answer, lambda: screen.line(f"Link {options.link}: {CUT[what]} cut."))
    return 0


def mend(screen: Screen, options: Namespace) -> int:
    answer = command(running(options.lab), "mend", link=options.link)
    screen.answer(answer, lambda: screen.line(f"Link {options.link}: mended, nobody taps it."))
    return 0


def tap(screen: Screen, options: Namespace) -> int:
    answer = command(running(options.lab), "tap", link=options.link, fraction=options.fraction)
    screen.answer(answer, lambda: screen.line(f"Link {options.link}: {percent(options.fraction)} of the light tapped."))
    return 0


def set_rate(screen: Screen, options: Namespace) -> int:
    kind = values.rate(1, 10**9)
    try:
        wanted_bps = kind.parse(int(options.rate) if options.rate.isdecimal() else options.rate)
    except WrongValue as wrong:
        raise Failed(f"{wrong.wrong}; {wrong.right or kind.expects}") from None
    answer = command(running(options.lab), "rate", link=options.link, rate_bps=wanted_bps)
    screen.answer(answer, lambda: screen.line(f"Link {options.link}: {rate(wanted_bps)} of key from now on."))
    return 0


def kill(screen: Screen, options: Namespace) -> int:
    return _units(screen, options, "kill", "killed")


def restart(screen: Screen, options: Namespace) -> int:
    return _units(screen, options, "restart", "started")


def _units(screen: Screen, options: Namespace, word: str, done: str) -> int:
    answer = command(running(options.lab), word, node=options.node, units=options.units)
    screen.answer(answer, lambda: screen.line(f"Node {options.node}: {done} {', '.join(answer['units'])}."))
    return 0


def execute(screen: Screen, options: Namespace) -> int:
    """Its exit status is the command's."""
    found = running(options.lab)
    if options.node not in found.nodes:
        raise Failed(f"there is no node {options.node}", f"nodes are {', '.join(found.nodes)}")
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    if not words:
        raise Failed("there is no command", f"such as: qbb lab exec {options.lab} {options.node} qbb links")
    here = str(Path(sys.executable).parent)
    environment = dict(os.environ, QBB_CONFIG=str(found.configuration(options.node)))
    environment["PATH"] = f"{here}:{environment.get('PATH', os.defpath)}"
    enter = ["nsenter", f"--net={namespaces.path(found.namespace(options.node))}", "--"]
    try:
        return subprocess.run([*enter, *words], env=environment, check=False).returncode
    except OSError as error:
        raise Failed(f"{words[0]}: {error.strerror}") from None
