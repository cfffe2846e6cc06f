"""`make demo`."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys

from appliance.cli.output import BAD
from appliance.client import KeyServiceError
from appliance.configuration.values import NAME
from appliance.demo import square
from appliance.demo.screen import Screen
from appliance.demo.story import Story
from appliance.demo.traffic import program
from appliance.lab import Run
from appliance.lab.starting import CannotStart
from appliance.services.control import NoAnswer, Refused

FIGURE = """\
          6 → ← 5   ┌──────┐   4 → ← 1
        ┌───────────┤ QBB2 ├───────────┐             ┌─ 3 ── Area 2
   ┌────┴─┐         └──────┘         ┌─┴────┐        ├─ 10 ─ Area 3
   │ QBB1 │          Area 1          │ QBB4 ├────────┤
   └────┬─┘         ┌──────┐         └─┬────┘        ├─ 8 ── Area 4
        └───────────┤ QBB3 ├───────────┘  backbone   └─ 2 ── Area 5
          7 → ← 8   └──────┘   2 → ← 2"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m appliance.demo", description="A QKD network on this machine.")
    made.add_argument("--sessions", type=_count, default=50, metavar="N", help="TLS sessions of each of two kinds; 50")
    made.add_argument("--name", type=_name, default="demo", help="name of the lab for qbb lab and qbb top; demo")
    return made


def _count(words: str) -> int:
    """At least one from each side."""
    if not words.isdecimal() or not 2 <= int(words) <= 10_000:
        raise argparse.ArgumentTypeError(f"{words} is not a number from 2 to 10000")
    return int(words)


def _name(words: str) -> str:
    if not NAME.fullmatch(words):
        raise argparse.ArgumentTypeError(f"{words} is no name: lower-case letters, digits and hyphens are wanted")
    return words


def main(words: list[str] | None = None) -> int:
    """0 when everything was as it should be, 1 when something was not, 2 when it cannot run here."""
    options = parser().parse_args(words)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no lines to draw with shows question marks
    screen = Screen()
    try:
        program()
        with Run() as run:
            play(run, screen, options)
        screen.say("All is removed: namespaces, processes, key stores.")
    except (CannotStart, PermissionError, FileNotFoundError) as error:
        print(f"the demonstration cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; all is removed", file=sys.stderr)
        return 130
    if screen.problems:
        screen.say(f"Not as it should be: {len(screen.problems)}, told above.", BAD)
        return 1
    screen.good("Everything was as it should be.")
    return 0


def play(run: Run, screen: Screen, options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as stack:
        try:
            running = start(run, screen, options.name, stack)
            Story(run, running, screen, options.sessions).play()
        except (AssertionError, NoAnswer, Refused, KeyServiceError) as error:
            screen.problem(str(error))
        if screen.problems:
            for words in square.last_words(options.name):
                screen.say(words, "dim")


def start(run: Run, screen: Screen, name: str, stack: contextlib.ExitStack) -> square.Square:
    began_s = screen.elapsed_s()
    screen.say("A QKD network on this machine: the paper's Figure 18, a network namespace for each node", "bold")
    screen.show(FIGURE + "\n")
    screen.say(
        "A link is a fibre with QKD devices (simulated), a key store at each end and a classical channel; it has a "
        "cost in each direction. FRR's OSPF finds the ways."
    )
    with screen.progress() as tell:
        running = stack.enter_context(square.running(name, run.directory, tell))
    took_s = screen.elapsed_s() - began_s
    screen.good(f"Up after {took_s:.1f} s: all stores hold key, all nodes have routes. (Look on: qbb top --lab {name})")
    return running


if __name__ == "__main__":
    sys.exit(main())
