"""Journal entries: one readable line without a journal, fields with one, never bytes; the catalogue."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import appliance
from appliance.services import journal
from appliance.services.events import EVENTS


def test_without_a_journal_an_entry_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    journal.write("link-down", "paris: exhausted\nsecond line", link="paris", cause="exhausted", peer=None)
    assert capsys.readouterr().err == "warning: link-down: paris: exhausted second line (link=paris cause=exhausted)\n"


def test_unknown_events_and_bytes_are_refused() -> None:
    with pytest.raises(KeyError):
        journal.write("link-sideways", "what?")
    for secret in (b"\0" * 32, bytearray(32), memoryview(b"key")):
        with pytest.raises(TypeError, match="journal field key"):
            journal.write("key-delivered", "given", key=secret)  # type: ignore[arg-type]


def test_message_ids_are_128_bits_unique_and_stable() -> None:
    ids = [event.message_id for event in EVENTS.values()]
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in ids)
    assert len(set(ids)) == len(ids)
    # What somebody's filter relies on never changes.
    assert EVENTS["link-down"].message_id == "8d712d10aa515f3c87f9712d13084c47"
    assert EVENTS["device-alarm-qber"].message_id == "23d531a76c9d527aadd42c4af11c10ba"


def test_every_event_that_the_tree_writes_is_in_the_table() -> None:
    folder = Path(__file__).resolve().parents[3] / "appliance"
    written = {
        name
        for path in folder.rglob("*.py")
        for name in re.findall(r'journal\.write\(\s*"([a-z-]+)"', path.read_text())
    }
    assert "unit-started" in written
    assert written <= set(EVENTS)


def test_the_catalogue_is_one_that_journalctl_takes(tmp_path: Path) -> None:
    catalogue = journal.catalogue()
    assert catalogue.count("\nSubject: ") == len(EVENTS)
    assert all(f"-- {event.message_id}\n" in catalogue for event in EVENTS.values())


def test_a_stream_that_is_the_journals_is_recognised_by_device_and_inode() -> None:
    program = (
        "import os, sys\nfrom appliance.services import journal\n"
        "status = os.fstat(2)\nos.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "journal.JOURNAL_SOCKET = '/'\nprint(journal._to_journal())\n"
        "os.environ['JOURNAL_STREAM'] = '1:1'\nprint(journal._to_journal())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(appliance.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == ["True", "False"]
