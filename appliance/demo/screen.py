"""What is seen: a line for each thing that happens, with its time; on a terminal, the links of the square below."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from appliance.cli.output import BAD, COLOURS, percent, rate, size
from appliance.demo.square import Square

POLL_S = 0.25
TOLD_S = 2.0  # between two lines of a long wait, where there is no live view
PIPED_WIDTH = 100
MARGIN = 20  # columns of text at least, however narrow the terminal
FULL_BYTES = 1 << 20  # a full bar
BAR = 14
Status = dict[str, dict[str, Any]] | None  # of a node's links; None: its data plane does not answer


def joined(link: str) -> str:
    """QBB1-QBB2, as people write it."""
    return link.upper()


class Links:
    """Follows the links of the square, in a thread of its own."""

    def __init__(self, square: Square) -> None:
        self._square = square
        self.seen: dict[str, Status] = dict.fromkeys(square.nodes)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        self.look()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(POLL_S):
            self.look()

    def look(self) -> None:
        for node in self._square.nodes:
            self.seen[node] = self._square.plane(node)

    def table(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        table.add_column("link", no_wrap=True)
        table.add_column("state", no_wrap=True, max_width=22, overflow="ellipsis")
        table.add_column("key store", no_wrap=True)
        for title in ("", "key made", "load", "QBER"):
            table.add_column(title, no_wrap=True, justify="right")
        for link in self._square.links:
            table.add_row(*self._row(link))
        return table

    def _row(self, link: str) -> list[RenderableType]:
        words, colour, told = self.link(link)
        if told is None:
            return [joined(link), Text(words, colour)]
        bar = ProgressBar(total=FULL_BYTES, completed=min(told["stored_bytes"], FULL_BYTES), width=BAR)
        load = f"{100 * told['load']:.0f} %"
        errors = Text(percent(told["qber"]), BAD if told["alarm"] else "")
        return [
            joined(link),
            Text(words, colour),
            bar,
            size(told["stored_bytes"]),
            rate(told["made_bps"]),
            load,
            errors,
        ]

    def link(self, link: str) -> tuple[str, str, dict[str, Any] | None]:
        """State, its colour, and the link's figures (None: no end tells any)."""
        return link_view(link, {node: self.seen[node] for node in self._square.ends[link]})

    def line(self) -> str:
        """All in one line of text: what is in store, or why a link is not up."""
        told = []
        for link in self._square.links:
            words, _, found = self.link(link)
            told.append(
                f"{joined(link)} {found['stored_bytes'] >> 10} KiB"
                if found and words == "up"
                else f"{joined(link)} {words}"
            )
        return "; ".join(told)


def link_view(link: str, ends: dict[str, Status]) -> tuple[str, str, dict[str, Any] | None]:
    """Of both ends one: the load is that of the busier direction. A link is up when it is at both ends."""
    dead = [node for node, status in ends.items() if status is None]
    told = [status[link] for status in ends.values() if status is not None]
    words, colour = (f"{dead[0].upper()} is dead", BAD) if dead else _state(told)
    if not told:
        return words, colour, None
    device = max((device for end in told for device in end["devices"]), key=lambda device: device["qber"] or 0.0)
    figures = {
        "stored_bytes": told[0]["stored_bytes"],
        "made_bps": told[0]["key_rate_bps"],
        "load": max(end["load"] for end in told),
        "qber": device["qber"],
        "alarm": any(device["alarm"] for end in told for device in end["devices"]),
    }
    return words, colour, figures


def _state(ends: Sequence[dict[str, Any]]) -> tuple[str, str]:
    if all(end["usable"] for end in ends):
        return "up", COLOURS["up"]
    if any(device["alarm"] for end in ends for device in end["devices"]):
        return "down: alarm", COLOURS["down"]
    first = next(end for end in ends if not end["usable"])
    if first["state"] == "up" and first["store_state"] == "charging":
        return "charging", COLOURS["charging"]
    return f"down: {first['cause']}" if first["cause"] else first["state"], COLOURS["down"]


class Screen:
    """`say` tells what happens; `problem` what is not as it should be; the links stand below while `showing`."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False, markup=False)
        if not self.console.is_terminal:
            self.console.width = PIPED_WIDTH
        self.problems: list[str] = []
        self._began = time.monotonic()
        self._links: Links | None = None

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began

    def say(self, text: str, style: str = "") -> None:
        """With its time; lines that follow are indented."""
        margin = f"{self.elapsed_s():5.1f} s  "
        for line in Text(text, style).wrap(self.console, max(self.console.width - len(margin) - 1, MARGIN)):
            line.rstrip()
            self.console.print(Text.assemble((margin, "dim"), line), soft_wrap=True)
            margin = " " * len(margin)

    def head(self, text: str) -> None:
        """A new step begins."""
        self.console.print()
        self.say(text, "bold")

    def good(self, text: str) -> None:
        self.say(text, "green")

    def show(self, what: RenderableType) -> None:
        """A table or a picture, after an empty line."""
        self.console.print()
        self.console.print(what)

    def problem(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"NOT AS IT SHOULD BE: {text}", BAD)

    def check(self, right: bool, text: str, wrong: str) -> None:
        """Says `text` in green, or `wrong` and remembers it."""
        if right:
            self.good(text)
        else:
            self.problem(wrong)

    @contextlib.contextmanager
    def progress(self) -> Iterator[Callable[[str, int, int], None]]:
        """How far the start of the network is: one line that changes; nothing where there is no terminal."""
        told = Text("")

        def tell(stage: str, done: int, total: int) -> None:
            told.plain = f"         {stage}: {done} of {total}"

        if not self.console.is_terminal:
            yield tell
            return
        with Live(told, console=self.console, refresh_per_second=8, transient=True):
            yield tell

    @contextlib.contextmanager
    def showing(self, links: Links) -> Iterator[None]:
        links.start()
        self._links = links
        try:
            if not self.console.is_terminal:
                yield
                return
            with Live(get_renderable=links.table, console=self.console, refresh_per_second=8, transient=True):
                yield
        finally:
            links.stop()

    def wait(self, found: Callable[[], bool], what: str, limit_s: float = 120.0) -> float:
        """Until found; where there is no live view, a line now and then. Returns seconds. Raises AssertionError."""
        began = told = time.monotonic()
        while not found():
            now = time.monotonic()
            seen = self._links.line() if self._links is not None else ""
            if now - began > limit_s:
                raise AssertionError(f"waited {limit_s:.0f} s in vain: {what}; {seen}")
            if not self.console.is_terminal and now - told >= TOLD_S:
                told = now
                self.say(f"key stores: {seen}", "dim")
            time.sleep(0.02)
        return time.monotonic() - began
