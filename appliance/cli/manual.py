"""Makes what is written from tables: the manual pages and the journal's message catalogue.

    python -m appliance.cli.manual [FOLDER]

qbb(1) comes from commands.py, qbb-node.toml(5) from configuration/schema.py, qbb.catalog from services/events.py. A
test checks that the files in the tree are what the tables say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.cli.commands import COMMANDS, Argument, Command
from appliance.configuration.schema import TABLES
from appliance.configuration.table import REQUIRED, Derived, Setting, Table
from appliance.services import journal

ROOT = Path(__file__).resolve().parents[2]


def roff(text: str) -> str:
    """Text as roff takes it."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def _title(name: str, section: int, what: str) -> list[str]:
    return [
        '.\\" Made by: python -m appliance.cli.manual',
        f'.TH {name.upper()} {section} "" "QBB appliance" "QBB node"',
        ".SH NAME",
        f"{roff(name)} \\- {roff(what)}",
    ]


def command_page() -> str:
    """qbb(1)"""
    lines = _title("qbb", 1, "ask and operate a QBB node")
    lines += [
        ".SH SYNOPSIS",
        "\\fBqbb\\fR [\\fB\\-\\-config\\fR \\fIFILE\\fR] [\\fB\\-\\-json\\fR] \\fICOMMAND\\fR ...",
    ]
    lines += [
        ".SH DESCRIPTION",
        roff("A QBB node relays session keys of a quantum key distribution network. qbb asks its"),
    ]
    lines += [roff("running units over the control sockets in the runtime directory, and checks its configuration.")]
    lines += [".SH OPTIONS"]
    lines += [".TP", "\\fB\\-\\-config\\fR \\fIFILE\\fR", roff("Configuration; $QBB_CONFIG or /etc/qbb/node.toml.")]
    lines += [".TP", "\\fB\\-\\-json\\fR", roff("Answer in JSON, for programs.")]
    lines.append(".SH COMMANDS")
    for command in COMMANDS:
        lines += _command(command)
    lines += [".SH EXIT STATUS", roff("0: done. 1: a problem, told on standard error. 2: the command line was wrong.")]
    lines += [".SH SEE ALSO", ".BR qbb-node.toml (5),", ".BR systemctl (1),", ".BR journalctl (1)"]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> Iterator[str]:
    yield ".SS " + " ".join(["qbb", *command.words, *(_usage(argument) for argument in command.arguments)])
    yield roff(_sentence(command.help))
    if command.more:
        yield roff(command.more)
    for argument in command.arguments:
        yield ".TP"
        yield _name(argument)
        yield roff(_sentence(argument.help))


def _name(argument: Argument) -> str:
    flag = argument.flags[0]
    shown = argument.options.get("metavar", flag.lstrip("-").upper())
    if not flag.startswith("-"):
        return f"\\fI{shown}\\fR"
    takes_value = argument.options.get("action") is None
    return f"\\fB{roff(flag)}\\fR" + (f" \\fI{shown}\\fR" if takes_value else "")


def _usage(argument: Argument) -> str:
    optional = argument.options.get("nargs") in ("?", "*")
    if argument.flags[0].startswith("-"):
        optional = not argument.options.get("required")
    return f"[{_name(argument)}]" if optional else _name(argument)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:].rstrip(".") + "."


def configuration_page() -> str:
    """qbb-node.toml(5)"""
    lines = _title("qbb-node.toml", 5, "configuration of a QBB node")
    lines += [".SH SYNOPSIS", roff("/etc/qbb/node.toml"), ".SH DESCRIPTION"]
    lines += [roff('The file is TOML. Sizes, durations and rates are texts with a unit, such as "64 KiB", "2 s" and')]
    lines += [roff('"10 kbit/s",')]
    lines += [roff("or bare numbers in the unit that the setting's name ends with. Unknown settings are refused.")]
    lines += [roff("Secrets never stand in the file: it names their files, which have mode 0600.")]
    for table in TABLES:
        lines += _table(table, table.name)
    lines += [".SH SEE ALSO", ".BR qbb (1)"]
    return "\n".join(lines) + "\n"


def _table(table: Table, header: str) -> Iterator[str]:
    yield f'.SH "{"[[" if table.many else "["}{header}{"]]" if table.many else "]"}"'
    yield roff(table.help)
    for setting in table.settings:
        yield ".TP"
        yield f"\\fB{setting.name}\\fR ({setting.kind.word}{_default(setting)})"
        yield roff(setting.help)
    for inner in table.tables:
        yield from _table(inner, f"{header}.{inner.name}")


def _default(setting: Setting) -> str:
    default: Any = setting.default
    if default is REQUIRED:
        return ", required"
    if default is None:
        return ""
    return f", default {roff(default.words if isinstance(default, Derived) else setting.kind.show(default))}"


def files() -> dict[str, str]:
    """Path in the tree -> text."""
    return {
        "packaging/qbb.1": command_page(),
        "packaging/qbb-node.toml.5": configuration_page(),
        "packaging/qbb.catalog": journal.catalogue(),
    }


def main(words: list[str]) -> int:
    root = Path(words[0]) if words else ROOT
    for name, text in files().items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
