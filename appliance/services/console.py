"""The status screen on an appliance's console: unit appliance-console@TTY, one for each terminal. Also `qbb console`.

It stands in the place of a login prompt, since there is nobody who has a password. On a machine that is no appliance it
only shows. Keys: n types in a node file, s a
secret, u answers a question for the recovery key, l logs in (where the owner of the machine allows it by a credential),
r puts the recovery key away.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from appliance.cli import consoleview
from appliance.cli.consoleview import Seen
from appliance.services import control
from appliance.site import cards, report, state
from appliance.site.identity import identity
from appliance.site.intake import SECRETS, Kept
from appliance.site.warrant import opens_var

RUNTIME = Path("/run/qbb")
INTERVAL_S = 5.0
PATIENCE_S = 0.5
READ_S = 2.0  # what an action said last stands so long
WIDTH = 80  # of a terminal that does not say
CLEAR = "\x1b[H\x1b[2J"
STAYS = "QBB_CONSOLE"  # set by the unit: nothing ends it
NAME = re.compile(r"[a-z0-9-]{1,32}")
RECOVERY_KEY = report.FOLDER / "recovery-key"
PUT_AWAY = Kept().folder / "recovery-key-made"
QUESTIONS = Path("/run/systemd/ask-password")
CARDS = Path("/sys/class/net")
CLOCK = Path("/run/systemd/timesync/synchronized")
RELEASE = Path("/usr/lib/os-release")
END = "."


def look() -> Seen:
    plane, monitor = _ask("dataplane"), _ask("monitor")
    manager = _assignments(_says("systemctl", "show", "--property=SystemState,NFailedUnits"))
    failed = _failed() if manager.get("NFailedUnits", "0") != "0" else []
    questions = [_question(path) for path in sorted(QUESTIONS.glob("ask.*"))] if QUESTIONS.is_dir() else []
    told = report.read()
    waits = failed or questions or not state.is_secure()  # and is not just starting
    if told is None and state.running() and waits and (shut := state.shut()) is not None:
        told = report.Report(troubles=[shut])  # everything waits for /var
    return Seen(
        release=_release(),
        appliance=bool(state.running()),
        machine=str(identity()),
        addresses=_addresses(),
        report=told,
        links=plane["links"] if plane else None,
        health=monitor["health"] if monitor else "",
        alarms=monitor["alarms"] if monitor else (),
        clock_right=CLOCK.exists(),
        starting=manager.get("SystemState") in ("initializing", "starting"),
        recovery_key=_text(RECOVERY_KEY),
        questions=questions,
        failed=failed,
        absent=list(cards.absent(told.cards, _says(*cards.LIST))) if told is not None and told.cards else (),
    )


def _failed() -> list[str]:
    """Units."""
    return [line.split()[0] for line in _says("systemctl", "--failed", "--plain", "--no-legend").splitlines()]


def _ask(unit: str) -> Any:
    with contextlib.suppress(control.NoAnswer, control.Refused):
        return control.ask(RUNTIME / f"{unit}.control", "status", timeout_s=PATIENCE_S)
    return None


def _release() -> str:
    lines = _assignments(_text(RELEASE))
    return lines.get("IMAGE_VERSION", lines.get("PRETTY_NAME", "")).strip('"')


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _question(path: Path) -> str:
    return _assignments(_text(path)).get("Message", "A password is wanted")


def _assignments(text: str) -> dict[str, str]:
    """NAME=VALUE in each line."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _says(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _addresses() -> list[tuple[str, bool, list[str]]]:
    """Of the network cards: name, whether it has a carrier, addresses that others can reach."""
    listed = psutil.net_if_addrs()
    return [
        (card.name, _text(card / "carrier") == "1", [_address(row) for row in listed.get(card.name, ()) if _shown(row)])
        for card in sorted(CARDS.iterdir())
        if (card / "device").exists()
    ]


def _shown(row: Any) -> bool:
    return row.family in (socket.AF_INET, socket.AF_INET6) and "%" not in row.address  # with a scope: of the link


def _address(row: Any) -> str:
    return str(ipaddress.ip_interface(f"{row.address}/{row.netmask}")) if row.family == socket.AF_INET else row.address


def show(console: Console, shown: str) -> str:
    """Draws it when it is not what stands there. What stands there now."""
    with console.capture() as capture:
        console.print(consoleview.frame(look(), console.width))
    text = capture.get()
    if text != shown:
        sys.stdout.write(CLEAR + text)
        sys.stdout.flush()
    return text


def key(wait_s: float) -> str:
    """One that was pressed, or nothing."""
    stdin = sys.stdin.fileno()
    return os.read(stdin, 1).decode(errors="replace") if select.select([stdin], [], [], wait_s)[0] else ""


@contextlib.contextmanager
def single_keys() -> Iterator[list[Any]]:
    """The terminal gives each key as it is pressed, and does not show it; also while the screen is being drawn. Gives
    how the terminal was."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    tty.setcbreak(stdin, termios.TCSADRAIN)
    try:
        yield before
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def perform(action: Callable[[], None], terminal: list[Any]) -> None:
    """With the terminal as it was: for lines."""
    stdin = sys.stdin.fileno()
    termios.tcsetattr(stdin, termios.TCSADRAIN, terminal)
    try:
        with contextlib.suppress(KeyboardInterrupt, OSError):
            action()
            time.sleep(READ_S if action is not put_away else 0)
    finally:
        tty.setcbreak(stdin, termios.TCSADRAIN)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """What is typed is not shown."""
    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    quiet = termios.tcgetattr(stdin)
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def proof(kept: Path) -> list[str] | None:
    """Where something is kept already hands on the machine are not enough: asks for the recovery key. Words for
    appliance-site; None when nothing may be taken."""
    if not state.is_open():
        print("/var is not open: what you type could not be kept.")
        return None
    if not kept.exists():
        return []
    with hidden():
        print("This machine has one already. To replace it, type the recovery key of its /var: ", end="", flush=True)
        typed = sys.stdin.readline().strip()
    print()
    if opens_var(typed):
        return ["--proved"]
    print("That is not the recovery key. Nothing was taken.")
    return None


def type_node() -> None:
    print(CLEAR, end="", flush=True)
    if (words := proof(Kept().node)) is None:
        return
    print(f"Type or paste the node file. A line with a single {END} ends it.")
    lines = []
    for line in sys.stdin:
        if line.strip() == END:
            break
        lines.append(line)
    with tempfile.TemporaryDirectory(dir=report.FOLDER) as folder:
        (Path(folder) / "node.toml").write_text("".join(lines))
        _take_in(folder, words)


def type_secret() -> None:
    """Its bytes go from the terminal to the file through base64(1) and are not seen here."""
    print(f"{CLEAR}Name of the link: ", end="", flush=True)
    link = sys.stdin.readline().strip()
    if not NAME.fullmatch(link):
        print("That is no link's name.")
        return
    if (words := proof(Kept().secrets / f"{SECRETS}{link}")) is None:
        return
    with tempfile.TemporaryDirectory(dir=report.FOLDER) as folder:
        command = f"sed '/^$/q' | base64 --decode > {SECRETS}{link}"
        with hidden():  # before anybody is asked: nothing of it is shown
            print("Paste the secret, as base64 wrote it (at the other machine: base64 FILE). An empty line ends it.")
            decoded = subprocess.run(["sh", "-c", command], cwd=folder, check=False).returncode
        if decoded:
            print("That was not base64. Nothing was taken.")
        else:
            _take_in(folder, words)


def _take_in(folder: str, words: list[str]) -> None:
    command = ["-m", "appliance.services.site", "--from", folder, *words]
    subprocess.run([sys.executable, "-I", *command], check=False)
    subprocess.run(["systemctl", "start", "--no-block", "qbb-node.service"], check=False)


def log_in() -> None:
    print(CLEAR, end="", flush=True)
    subprocess.run(["login", "-p", "root"], check=False)


def unlock() -> None:
    print(CLEAR, end="", flush=True)
    subprocess.run(["systemd-tty-ask-password-agent", "--query"], check=False)


def put_away() -> None:
    """Somebody has it. Until then each start makes another one and shows it."""
    if RECOVERY_KEY.exists():
        PUT_AWAY.touch()
        os.sync()
        RECOVERY_KEY.unlink()


ACTIONS = {"n": type_node, "s": type_secret, "l": log_in, "u": unlock, "r": put_away}


def main() -> int:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        print("the console wants a terminal", file=sys.stderr)
        return 1
    width = os.get_terminal_size(sys.stdout.fileno()).columns or WIDTH
    console = Console(
        width=width, force_terminal=True, color_system="standard", highlight=False, emoji=False, markup=False
    )
    shown = ""
    with single_keys() as terminal:
        while True:
            shown = show(console, shown)
            pressed = key(INTERVAL_S)
            if pressed in ("q", "\x03") and os.environ.get(STAYS) is None:
                return 0
            if state.running() and (act := ACTIONS.get(pressed)) is not None:
                perform(act, terminal)
                shown = ""


if __name__ == "__main__":
    sys.exit(main())
