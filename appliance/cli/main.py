"""The command `qbb`. Exit status: 0 done, 1 a problem that was reported, 2 the command line was wrong."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from appliance.cli.asking import Failed
from appliance.cli.commands import COMMANDS, Command
from appliance.cli.output import Screen

DEFAULT_CONFIGURATION = "/etc/qbb/node.toml"
GROUPS = {
    "link": "one link: show, secret, discard",
    "lab": "a whole network on this machine: up, down, status, cut, mend, tap, rate, kill, restart, exec",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="qbb", description="Asks and operates a QBB node.")
    _add_globals(top, os.environ.get("QBB_CONFIG", DEFAULT_CONFIGURATION), False)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    groups = {}
    for name, help_text in GROUPS.items():
        group = commands.add_parser(name, help=help_text, description=help_text)
        groups[name] = group.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        place = groups[command.words[0]] if len(command.words) > 1 else commands
        _add_command(place, command)
    return top


def _add_command(place: argparse._SubParsersAction[argparse.ArgumentParser], command: Command) -> None:
    own = place.add_parser(command.words[-1], help=command.help, description=command.help, epilog=command.more or None)
    # Also behind the command, where people put them. SUPPRESS: unless given there, what stood in front holds.
    _add_globals(own, argparse.SUPPRESS, argparse.SUPPRESS)
    for argument in command.arguments:
        own.add_argument(*argument.flags, help=argument.help, **argument.options)
    own.set_defaults(run=command.run)


def _add_globals(where: argparse.ArgumentParser, configuration: object, as_json: object) -> None:
    where.add_argument("--config", type=Path, default=configuration, metavar="FILE", help="configuration file")
    where.add_argument("--json", action="store_true", default=as_json, help="answer in JSON, for programs")


def main(words: list[str] | None = None) -> int:
    options = parser().parse_args(words)
    options.config = Path(options.config)
    try:
        return int(options.run(Screen(options.json), options))
    except Failed as failed:
        print(f"qbb: {failed}", file=sys.stderr)
        if failed.hint:
            print(f"     {failed.hint}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output went away (qbb links | head): no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
