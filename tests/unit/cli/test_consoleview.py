"""The screen of an appliance's console."""

from __future__ import annotations

from rich.console import Console

from appliance.cli.consoleview import Seen, frame
from appliance.site.report import Report, Trouble

LINK = {"name": "vienna", "state": "up", "store_state": "ready", "stored_bytes": 1 << 20, "usable": True}


def shown(seen: Seen) -> str:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(frame(seen, 80))
    return capture.get()


def test_a_node_in_order() -> None:
    seen = Seen("0.1.0", "4c4c, serial number 7", [("enp1s0", True, ["192.0.2.1/24"]), ("enp2s0", False, [])],
                Report("paris"), [LINK], "good", clock_right=True)  # fmt: skip
    text = shown(seen)
    for words in ("QBB appliance 0.1.0", "node paris", "good", "4c4c, serial number 7", "192.0.2.1/24  up"):
        assert words in text
    assert "no address  unplugged" in text
    assert "1.0 MiB" in text
    assert "Clock     synchronised" in text
    assert "!" not in text


def test_without_a_node_file_it_says_how_to_give_one() -> None:
    text = shown(Seen("0.1.0", "4c4c", report=Report(troubles=[Trouble("This machine has no node file", "Offer one")])))
    assert "no node" in text
    assert "! This machine has no node file\n  Offer one." in text
    assert "n node file" in text


def test_a_network_card_that_is_not_there_is_shown() -> None:
    text = shown(Seen("0.1.0", "4c4c", report=Report("paris"), absent=[Trouble("There is no network card", "Mend it")]))
    assert "! There is no network card\n  Mend it." in text


def test_alarms_questions_and_the_recovery_key() -> None:
    alarm = {"alarm": "qber", "about": "fibre-1", "link": "vienna", "text": "the fibre is tapped"}
    text = shown(Seen("0.1.0", "4c4c", report=Report("paris"), alarms=[alarm], health="bad", failed=["ssh.service"],
                      recovery_key="cbd-efg", questions=["Recovery key for var"]))  # fmt: skip
    assert "! qber fibre-1: the fibre is tapped" in text
    assert "! ssh.service failed  journalctl -u ssh.service" in text
    assert "cbd-efg" in text
    assert "r I have the recovery key" in text
    assert "? Recovery key for var  key u to answer" in text
    assert "The data plane does not answer." in text
    assert "not synchronised" in text
