"""What is seen: one line a step with its time; on a terminal, bars for the key stores below."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.cli.output import COLOURS, percent, rate, size
from appliance.lab import Node
from appliance.services.control import NoAnswer

POLL_S = 0.25
PIPED_WIDTH = 120
Status = dict[str, Any] | None


class Stores:
    """Follows the links of some nodes, in a thread of its own. None: the data plane does not answer."""

    def __init__(self, nodes: list[Node], full_bytes: int) -> None:
        self.full_bytes = full_bytes
        self._nodes = nodes
        self.seen: dict[str, Status] = {node.name: None for node in nodes}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self.look()

    def look(self) -> None:
        for node in self._nodes:
            try:
                self.seen[node.name] = node.link()
            except NoAnswer:
                self.seen[node.name] = None

    def bars(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("site", "link", "key store", "", "key rate", "errors on the fibres (QBER)"):
            table.add_column(title, no_wrap=True)
        for name, link in self.seen.items():
            if link is None:
                table.add_row(name, Text("data plane dead", "bold red"))
                continue
            words, colour = state_of(link)
            bar = ProgressBar(total=self.full_bytes, completed=min(link["stored_bytes"], self.full_bytes), width=24)
            errors = Text("  ").join(_errors(device) for device in link["devices"])
            table.add_row(
                name, Text(words, colour), bar, size(link["stored_bytes"]), rate(link["key_rate_bps"]), errors
            )
        return table

    def line(self) -> str:
        """The same in one line of text."""
        told = []
        for name, link in self.seen.items():
            if link is None:
                told.append(f"{name}: data plane dead")
            else:
                told.append(
                    f"{name}: {size(link['stored_bytes'])} of key, {rate(link['key_rate_bps'])}, {state_of(link)[0]}"
                )
        return "; ".join(told)


def state_of(link: dict[str, Any]) -> tuple[str, str]:
    """What a person wants to know of a link, and its colour."""
    if link["usable"]:
        return "up", COLOURS["up"]
    if link["state"] == "up" and link["store_state"] == "charging" and not any(d["alarm"] for d in link["devices"]):
        return "charging", COLOURS["charging"]
    return f"down: {link['cause']}", COLOURS["down"]


def _errors(device: dict[str, Any]) -> Text:
    return Text(f"{device['name']} {percent(device['qber'])}", "bold red" if device["alarm"] else "")


class Screen:
    """`say` tells a step; `problem` what is not as it should be; the bars stand below while `showing`."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False, markup=False)
        if not self.console.is_terminal:
            self.console.width = PIPED_WIDTH
        self.problems: list[str] = []
        self._began = time.monotonic()
        self._live: Live | None = None

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text.assemble((f"{self.elapsed_s():5.1f} s  ", "dim"), (text, style)), soft_wrap=False)

    def head(self, text: str) -> None:
        self.say(text, "bold")

    def good(self, text: str) -> None:
        self.say(text, "green")

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"NOT AS IT SHOULD BE: {text}", "bold red")

    def check(self, right: bool, text: str, wrong: str) -> None:
        """Says `text` in green, or `wrong` and remembers it."""
        if right:
            self.good(text)
        else:
            self.problem(wrong)

    @contextlib.contextmanager
    def showing(self, stores: Stores) -> Iterator[None]:
        stores.start()
        try:
            if not self.console.is_terminal:
                yield
                return
            with Live(get_renderable=stores.bars, console=self.console, refresh_per_second=8, transient=True):
                yield
        finally:
            stores.stop()

    def wait(self, stores: Stores, found: Callable[[], bool], what: str, limit_s: float = 30.0) -> float:
        """Until found; where there are no bars, a line now and then. Returns seconds. Raises AssertionError."""
        began = told = time.monotonic()
        while not found():
            now = time.monotonic()
            if now - began > limit_s:
                raise AssertionError(f"waited {limit_s:.0f} s in vain: {what}; {stores.line()}")
            if not self.console.is_terminal and now - told >= 1:
                told = now
                self.say(f"  {stores.line()}")
            time.sleep(0.02)
        return time.monotonic() - began
