"""The live view: what a frame says, and that it fits the screen."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_world import DATAPLANE, KEYS, SESSION, Units, link
from rich.console import Console

from appliance.cli import topview
from appliance.cli.main import main
from appliance.cli.top import KEY, View
from appliance.cli.topview import Meter, NodeView, bar, node_view, short


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Units]:
    made = Units(tmp_path)
    yield made
    made.close()


def node(name: str = "alice", links: int = 2, **other: Any) -> NodeView:
    plane = {**DATAPLANE, "links": [link(f"{name}-link{number}", "1.1.0.5", **other) for number in range(links)]}
    return node_view(name, 1.0, Meter(), {"dataplane": plane, "keys": KEYS, "sessions": {"sessions": [SESSION]}})


class Fixed:
    """Nodes that do not change, in the place of a network."""

    def __init__(self, nodes: list[NodeView]) -> None:
        self.title, self._nodes = "Lab test", nodes

    def look(self) -> list[NodeView]:
        return self._nodes


def lines(view: View, width: int = 80, height: int | None = 24) -> list[str]:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(view.frame(width, height))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().rstrip("\n").split("\n")


def test_once_shows_every_link(
    units: Units, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # of 80, a long cause shows its beginning only
    assert main(["--config", str(units.config), "top", "--once"]) == 0
    shown = capsys.readouterr().out
    assert "Node alice  1.1.0.1  1 of 2 links up" in shown
    paris = next(line for line in shown.splitlines() if line.startswith("paris"))
    rome = next(line for line in shown.splitlines() if line.startswith("rome"))
    assert paris.split()[:2] == ["paris", "up"] and "3.1M" in paris and "12.3k" in paris
    assert "quarantine" in rome and "the logs contradict each other" in rome
    assert "sessions 1  keys held 5" in shown


def test_json(units: Units, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config", str(units.config), "--json", "top"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in told["links"]] == ["paris", "rome"]
    assert told["links"][0]["spent_bps"] == 0.0


def test_a_lab_that_does_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "--lab", "no-such-lab"]) == 1
    assert "neither a lab file nor a running lab" in capsys.readouterr().err


def test_units_that_are_silent_are_named(units: Units) -> None:
    view = node_view("bob", 0.0, Meter(), {"dataplane": None, "keys": None, "sessions": None})
    assert view.silent == ("dataplane", "keys")
    assert "dataplane is silent, keys is silent" in "\n".join(lines(View(Fixed([view, node()])), 120))  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 10), (200, 60)])
@pytest.mark.parametrize("nodes", [1, 3, 50])
def test_a_frame_fills_the_screen_and_no_more(width: int, height: int, nodes: int) -> None:
    view = View(Fixed([node(f"n{number}", 4) for number in range(nodes)]))  # type: ignore[arg-type]
    for key in ("", "l", "\x1b[6~", "l", "\x1b[B"):
        view.press(key)
        shown = lines(view, width, height)
        assert len(shown) == height
        assert max(len(line) for line in shown) <= width


def test_links_are_shown_when_there_is_room_and_when_asked_for() -> None:
    few, many = [node(f"n{number}", 2) for number in range(3)], [node(f"n{number}", 2) for number in range(12)]
    assert any("n0-link1" in line for line in lines(View(Fixed(few))))  # type: ignore[arg-type]
    view = View(Fixed(many))  # type: ignore[arg-type]
    assert not any("n0-link1" in line for line in lines(view))
    view.press("l")
    assert any("n0-link1" in line for line in lines(view))
    assert "0 above, 16 below" in lines(view)[-1]
    view.press("\x1b[6~")
    assert "10 above, 6 below" in lines(view)[-1]
    assert not view.press("q")


def test_several_keys_may_come_at_once() -> None:
    assert KEY.findall("l\x1b[6~\x1b[Bq") == ["l", "\x1b[6~", "\x1b[B", "q"]


def test_a_link_that_is_up_and_carries_nothing_is_stopped() -> None:
    (shown,) = node(links=1, usable=False, cause="device x: qber", devices=[{"name": "x", "alarm": "qber"}]).links
    assert (shown.state, shown.up, shown.trouble) == ("stopped", False, "qber")


def test_spent_key_is_what_was_spent_between_two_looks() -> None:
    meter = Meter()
    assert meter.spent_bps(10.0, "a", "x", 1000) is None
    assert meter.spent_bps(12.0, "a", "x", 1500) == 2000.0
    assert meter.spent_bps(13.0, "a", "x", 100) is None  # restarted
    assert meter.spent_bps(14.0, "b", "x", 100) is None  # another node's


def test_the_two_ends_of_a_lab_count_once() -> None:
    assert "stored 3.1 MB" in topview.totals([node("a", 1), node("b", 1)]).plain
    assert "stored 6.3 MB" in topview.totals([node("a", 2)]).plain


@pytest.mark.parametrize(
    ("number", "shown"),
    [(None, "-"), (0, "0"), (999, "999"), (999.6, "1.0k"), (12345, "12.3k"), (99960, "100k"), (4.5e6, "4.5M")],
)
def test_short(number: float | None, shown: str) -> None:
    assert short(number) == shown


@pytest.mark.parametrize(
    ("stored", "shown"),
    [(0, "········"), (1024, "········"), (4096, "█·······"), (8192, "█▌······"), (1 << 26, "████████")],
)
def test_bar(stored: int, shown: str) -> None:
    assert bar(stored) == shown
    assert bar(1 << 40) == "████████"
