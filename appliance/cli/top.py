"""top: stores, rates, load, sessions and alarms of a node or of a whole lab, live.

Keys: q ends it; arrows, page up and down scroll; l shows nodes alone, or links too.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import time
import tty
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from appliance.cli import topview
from appliance.cli.asking import Node
from appliance.cli.output import Screen
from appliance.cli.topview import Meter, NodeView
from appliance.services import control

INTERVAL_S = 1.0
PATIENCE_S = 0.5  # for one unit's answer
ALL = 1 << 20  # rows
AROUND = 4  # lines of a frame that are no rows: title, header, totals, keys
HELP = "q ends  arrows scroll  l links or nodes  STORED in bytes, rates in bit/s"
KEYS = {"\x1b[A": -1, "\x1b[B": 1, "k": -1, "j": 1, "\x1b[5~": -10, "\x1b[6~": 10}
KEY = re.compile(r"\x1b\[[0-9;]*[A-Za-z~]|.", re.DOTALL)  # one key: an escape sequence, or a character
MOST_TYPED = 256


class Watched:
    """What is watched: control sockets of nodes, by name."""

    def __init__(self, title: str, nodes: Mapping[str, Path]) -> None:
        self.title, self._nodes = title, nodes
        self._meter = Meter()

    def look(self) -> list[NodeView]:
        return [
            topview.node_view(name, time.monotonic(), self._meter, _answers(runtime))
            for name, runtime in self._nodes.items()
        ]


def _answers(runtime: Path) -> dict[str, Any]:
    def ask(unit: str, word: str) -> Any:
        with contextlib.suppress(control.NoAnswer, control.Refused):
            return control.ask(runtime / f"{unit}.control", word, timeout_s=PATIENCE_S)
        return None

    keys = ask("keys", "status")
    sessions = ask("keys", "sessions") if keys is not None else None
    return {"dataplane": ask("dataplane", "status"), "keys": keys, "sessions": sessions}


def _watched(options: Namespace) -> Watched:
    """Raises Failed."""
    if options.lab is None:
        node = Node.of(options.config).config
        return Watched(f"Node {node.name}", {node.name: node.runtime_directory})
    from appliance.cli import lab

    found = lab.running(options.lab)
    return Watched(f"Lab {found.name}", {name: found.runtime(name) for name in found.nodes})


class View:
    """What of it is on the screen."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._nodes = watched.look()
        self._offset = 0
        self._with_links: bool | None = None  # None: when there is room
        self._room = ALL

    def look(self) -> None:
        self._nodes = self._watched.look()

    def press(self, key: str) -> bool:
        """False ends it."""
        if key in ("q", "Q", "\x03"):
            return False
        if key == "l":
            self._with_links = not self._shows_links(self._room)
        self._offset = max(0, self._offset + KEYS.get(key, 0))
        return True

    def _shows_links(self, room: int) -> bool:
        return topview.fitting(self._nodes, room) if self._with_links is None else self._with_links

    def frame(self, width: int, height: int | None) -> RenderableType:
        """Without a height everything, and nothing about keys."""
        nodes = self._nodes
        self._room = ALL if height is None else max(1, height - AROUND)
        lines = topview.rows(nodes, self._shows_links(self._room))
        self._offset = min(self._offset, max(0, len(lines) - self._room))
        shown = lines[self._offset : self._offset + self._room]
        first = "LINK" if len(nodes) == 1 else "NODE"
        parts: list[RenderableType] = [topview.title(self._watched.title, nodes, time.strftime("%H:%M:%S"))]
        parts.append(topview.table(shown, width, first))
        if height is not None:
            parts += [Text() for _ in range(self._room - len(shown))]
        parts.append(topview.totals(nodes))
        if height is not None:
            more = len(lines) - self._offset - len(shown)
            where = f"{self._offset} above, {more} below  " if len(shown) < len(lines) else ""
            parts.append(Text(where + HELP, "dim", no_wrap=True, overflow="ellipsis", end=""))
        return Group(*parts)

    def told(self) -> list[dict[str, Any]]:
        return [asdict(node) for node in self._nodes]


def top(screen: Screen, options: Namespace) -> int:
    """Raises Failed."""
    view = View(_watched(options))
    if options.once or screen.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        time.sleep(INTERVAL_S)  # rates are what happened between two looks
        view.look()
        console = screen.console
        screen.answer(view.told(), lambda: console.print(view.frame(console.width, None)))
        return 0
    _live(view, screen.console)
    return 0


def _live(view: View, console: Console) -> None:
    with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False, transient=True) as live:
        next_s = time.monotonic()
        while True:
            live.update(view.frame(console.width, console.height), refresh=True)
            next_s = max(next_s + INTERVAL_S, time.monotonic())
            while (wait_s := next_s - time.monotonic()) > 0:
                if select.select([sys.stdin], [], [], wait_s)[0]:
                    typed = os.read(sys.stdin.fileno(), MOST_TYPED).decode(errors="replace")
                    if not typed or not all(view.press(key) for key in KEY.findall(typed)):
                        return
                    live.update(view.frame(console.width, console.height), refresh=True)
            view.look()


@contextlib.contextmanager
def _keys_at_once() -> Iterator[None]:
    """Each key when it is pressed, none shown; Ctrl-C still interrupts."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
