"""The parts of the demonstration that run nothing: its network's file, the table beside the paper's, what is shown."""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console, RenderableType

from appliance.client import KeyServiceError
from appliance.demo import __main__ as demo
from appliance.demo import report, tablei
from appliance.demo.account import BY_ITSELF, FOR_KEYS, between, pads, per_byte
from appliance.demo.report import Phase
from appliance.demo.screen import Screen, link_view
from appliance.demo.square import text
from appliance.demo.traffic import Outcome, Session
from appliance.lab import file, starting
from appliance.lab.paths import first_links

# Table III, and what QBB4 advertises (reference: the paper's Figure 18).
TABLE_III = {
    ("qbb1", "qbb2"): (6, 5),
    ("qbb1", "qbb3"): (7, 8),
    ("qbb2", "qbb4"): (4, 1),
    ("qbb3", "qbb4"): (2, 2),
}
ADVERTISED = {"area2": 3, "area3": 10, "area4": 8, "area5": 2}


def printed(what: RenderableType, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return out.getvalue()


def routes() -> dict[str, dict[str, Any]]:
    """As the routing unit tells them when all is well; of its own network it knows ways round, which loop."""
    found: dict[str, dict[str, Any]] = {}
    for row in tablei.ROWS:
        costs = row.right or {tablei.BY_QBB2: 12, tablei.BY_QBB3: 16}
        entries = [{"link": link, "cost": cost, "loop_free": bool(row.right)} for link, cost in costs.items()]
        found[row.destination] = {"local": not row.right, "entries": entries}
    return found


def test_the_network_is_that_of_the_paper() -> None:
    lab = file.parse(text())
    assert {link.ends: link.cost for link in lab.links if link.ends in TABLE_III} == TABLE_III
    border = {link.ends[1]: link.cost[0] + 1 for link in lab.links if link.ends[0] == "qbb4"}
    assert border == ADVERTISED, "the other node's own network is one step more"
    assert lab.node("qbb4").role == "border" and len(lab.links) == len(TABLE_III) + len(ADVERTISED)
    assert first_links(lab, "qbb1")["area4"] == "qbb1-qbb3"


def test_what_must_come_out_follows_from_table_iii() -> None:
    """Each row's two costs, by hand: the link's cost and the shortest way on from its other end."""
    by_2 = {"QBB2": 6, "QBB3": 6 + 4 + 2, "QBB4": 6 + 4}
    by_3 = {"QBB2": 7 + 2 + 1, "QBB3": 7, "QBB4": 7 + 2}
    rows = {row.name: row for row in tablei.ROWS}
    for name in by_2:
        for row in (rows[name], rows[name.replace("QBB", "N")]):
            assert (row.by_qbb2, row.by_qbb3) == (by_2[name], by_3[name])
    for name, cost in ADVERTISED.items():
        row = rows[name.replace("area", "NA")]
        assert (row.by_qbb2, row.by_qbb3) == (10 + cost, 9 + cost)
    differs = [
        row.name for row in tablei.ROWS[1:] if int(row.printed.split()[0]) != min(row.by_qbb2 or 0, row.by_qbb3 or 0)
    ]
    assert differs == ["NA4"], "the misprint alone"


def test_the_table_tells_both_and_the_misprint() -> None:
    told = printed(tablei.table(routes()))
    assert "QBB4  1.1.0.13      9 QBB3       10      > 9" in told
    assert "NA4   1.4.0.0/16   16 QBB3       18     > 17  a misprint: 9 + 8 = 17" in told
    assert "N4    1.1.0.12/30   9 QBB3     10+1    > 9+1" in told
    assert list(tablei.wrong(routes())) == []


def test_wrong_and_missing_routes_are_told() -> None:
    found = routes()
    del found["1.2.0.0/16"]
    found["1.1.0.5"]["entries"][0]["cost"] = 7
    found["1.5.0.0/16"]["entries"].pop()
    found["1.1.0.9"]["entries"][0]["loop_free"] = False
    assert [told.split(":")[0] for told in tablei.wrong(found)] == ["QBB2", "QBB3", "NA2", "NA5"]
    assert "none" in printed(tablei.table(found))
    assert len(list(tablei.wrong({}))) == len(tablei.ROWS)


def end(**changes: Any) -> dict[str, Any]:
    device = {"qber": 0.03, "alarm": None}
    told = {"usable": True, "state": "up", "store_state": "ready", "cause": "", "stored_bytes": 4096}
    return {**told, "key_rate_bps": 1e5, "load": 0.1, "devices": [device], **changes}


def test_a_link_is_what_both_ends_say() -> None:
    words, _, told = link_view("x", {"a": {"x": end()}, "b": {"x": end(load=0.5)}})
    assert words == "up" and told is not None and told["load"] == 0.5
    alarmed = end(usable=False, devices=[{"qber": 0.25, "alarm": "qber"}])
    words, _, told = link_view("x", {"a": {"x": end()}, "b": {"x": alarmed}})
    assert words == "down: alarm" and told is not None and told["alarm"]
    silent = end(usable=False, state="down", cause="the peer is silent")
    assert link_view("x", {"a": {"x": end()}, "b": {"x": silent}})[0] == "down: the peer is silent"
    charging = end(usable=False, store_state="charging")
    assert link_view("x", {"a": {"x": end()}, "b": {"x": charging}})[0] == "charging"
    words, _, told = link_view("x", {"a": {"x": end()}, "b": None})
    assert words == "B is dead" and told is not None
    assert link_view("x", {"a": None, "b": None})[2] is None
    no_light = end(devices=[{"qber": None, "alarm": "no-light"}])
    assert link_view("x", {"a": {"x": no_light}, "b": {"x": no_light}})[2] is not None


def test_the_account_is_per_key_byte_that_crossed() -> None:
    before = {"l": Counter(pad=100, store=10)}
    after = {"l": Counter(pad=500, tag_data=200, store=30)}
    used = between(before, after)
    assert used == {"l": Counter(pad=400, tag_data=200, store=20)}
    assert per_byte(used["l"], FOR_KEYS) == 1.5
    assert per_byte(used["l"], BY_ITSELF) == 0.05
    assert per_byte(Counter(), FOR_KEYS) == 0
    links = {"l": {"spent_bytes": {"pad": 7}}, "m": {"spent_bytes": {"pad": 9}}}
    assert pads(links, ["m"]) == Counter(m=9)


def test_the_tables_at_the_end_fit_a_terminal() -> None:
    outcome = Outcome([Session(str(number), number / 1e3, 0.002, "") for number in range(1, 101)])
    spent = {"qbb1-qbb3": Counter(pad=3200, tag_data=1600, tag_ack=320, store=640, tag_routing=16)}
    phases = [Phase("key by key", outcome, spent)]
    told = printed(report.spending(phases))
    assert "QBB1-QBB3" in told and "1.00  0.50  0.10     0.20  0.01  1.80" in told
    assert "control" not in told, "nothing was spent on it"
    outcomes = dict.fromkeys(("key by key", "from stock", "cut", "tapped", "relay killed"), outcome)
    told = printed(report.latencies(outcomes))
    assert told.count("51 ms") == 5 and told.count("100 ms") == 5 and "2.0 ms" in told
    refused = Outcome(refusals=["no key"])
    told = printed(report.balance([outcome, refused], 7, []))
    counted = [line.split()[-1] for line in told.splitlines()[1:4]]
    assert counted == ["100", "1", "7"]
    assert all(len(line) <= 80 for line in told.splitlines())


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0004, "0.4 ms"), (0.0094, "9.4 ms"), (0.75, "750 ms"), (2.5, "2.50 s")]
)
def test_durations(seconds: float, words: str) -> None:
    assert report.duration(seconds) == words


def test_long_lines_are_indented(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.say("word " * 60)
    screen.check(False, "good", "bad")
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("  0.0 s  word") and second.startswith("         word") and len(first) <= 100
    assert screen.problems == ["bad"]


@pytest.mark.parametrize("words", [["--sessions", "1"], ["--sessions", "many"], ["--name", "A B"], ["more"]])
def test_a_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.main(words)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_where_it_cannot_run_it_says_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert demo.main([]) == 2
    assert "the demonstration cannot run: " in capsys.readouterr().err
    with pytest.raises(starting.CannotStart, match="needs root"):
        starting.check(file.parse(text()))


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (AssertionError("waited in vain"), 1),
        (KeyServiceError(13, "no key"), 1),
        (starting.CannotStart("lab demo runs already"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_exit_status_says_how_it_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: BaseException, status: int
) -> None:
    @contextlib.contextmanager
    def running(*arguments: object) -> Iterator[None]:
        raise wrong
        yield

    monkeypatch.setattr("appliance.demo.square.running", running)
    assert demo.main([]) == status
    told = capsys.readouterr()
    assert (f"NOT AS IT SHOULD BE: {wrong}" in told.out) == (status == 1)
    assert (str(wrong) in told.err) == (status != 1)
