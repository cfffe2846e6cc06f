"""Structured journal entries. Where there is no journal, a readable line on standard error.

`write("link-down", "paris: no key", link="paris", cause="exhausted")` gives MESSAGE, MESSAGE_ID, PRIORITY,
QBB_EVENT=link-down, QBB_LINK=paris, QBB_CAUSE=exhausted. Events and their severities stand in events.py.
Fields are names, counts and addresses; a bytes-like field is refused, so that no key byte gets here by
accident.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from systemd import journal as systemd_journal

from appliance.services.events import EVENTS, Severity

JOURNAL_SOCKET = "/run/systemd/journal/socket"
identifier = "qbb"  # of this program, as journalctl shows it; startup.py sets it
Field = str | int | float | None


def write(event: str, message: str, **fields: Field) -> None:
    """Writes one entry; fields with None are left out. Raises KeyError for an event that is not in the
    table."""
    row = EVENTS[event]
    for name, value in fields.items():
        if not isinstance(value, (str, int, float)) and value is not None:
            raise TypeError(f"journal field {name} is {type(value).__name__}: text and numbers only")
    if _to_journal():
        systemd_journal.send(
            _line(message),
            MESSAGE_ID=row.message_id,
            SYSLOG_IDENTIFIER=identifier,
            PRIORITY=int(row.severity),
            QBB_EVENT=row.name,
            **{f"QBB_{name.upper()}": str(value) for name, value in fields.items() if value is not None},
        )
    else:
        print(readable(event, message, **fields), file=sys.stderr, flush=True)


def readable(event: str, message: str, **fields: Field) -> str:
    """One line: severity, event, message, fields."""
    row = EVENTS[event]
    details = " ".join(f"{name}={_line(str(value))}" for name, value in fields.items() if value is not None)
    line = f"{row.severity.name.lower()}: {row.name}: {_line(message)}"
    return f"{line} ({details})" if details else line


def catalogue() -> str:
    """The message catalogue of journalctl -x, for packaging/qbb.catalog."""
    entries = [
        f"-- {row.message_id}\nSubject: {row.subject}\nDefined-By: qbb\n\n{row.explanation or row.subject + '.'}\n"
        for row in EVENTS.values()
    ]
    return "# Made by: python -m appliance.cli.manual\n" + "\n".join(entries)


def _to_journal(stream: TextIO | None = None) -> bool:
    """systemd tells by JOURNAL_STREAM (device:inode) that standard error is the journal's; see
    systemd.exec(5)."""
    announced = os.environ.get("JOURNAL_STREAM", "")
    if not announced or not os.path.exists(JOURNAL_SOCKET):  # noqa: PTH110 - a socket, only looked at
        return False
    try:
        status = os.fstat((stream or sys.stderr).fileno())
    except (OSError, ValueError):
        return False
    return announced == f"{status.st_dev}:{status.st_ino}"


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


__all__ = ["Severity", "catalogue", "readable", "write"]
