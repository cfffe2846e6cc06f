"""What a unit tells systemd: ready, status line, watchdog, stopping. Nothing happens without
NOTIFY_SOCKET."""

from __future__ import annotations

import os

from systemd import daemon


def _tell(message: str) -> None:
    daemon.notify(message)


def ready(status: str) -> None:
    _tell(f"READY=1\nSTATUS={_line(status)}")


def status(text: str) -> None:
    _tell(f"STATUS={_line(text)}")


def reloading() -> None:
    _tell("RELOADING=1")


def stopping() -> None:
    _tell("STOPPING=1")


def watchdog() -> None:
    _tell("WATCHDOG=1")


def watchdog_interval_s() -> float:
    """Half of what systemd allows, as sd_watchdog_enabled(3) advises; 0 when there is no watchdog."""
    period_us = os.environ.get("WATCHDOG_USEC", "")
    meant_for = os.environ.get("WATCHDOG_PID", str(os.getpid()))
    if not period_us.isdecimal() or meant_for != str(os.getpid()):
        return 0.0
    return int(period_us) / 2e6


def _line(text: str) -> str:
    return " ".join(text.split())
