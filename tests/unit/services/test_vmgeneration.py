"""What the kernel's log says of a restored machine. (With a real kernel: tests/image; uevents: tests/topology.)"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.services import vmgeneration
from appliance.services.runtime import Loop
from appliance.services.vmgeneration import LOG, RESTORED, GenerationWatch, has_generation_id

OTHER = b"6,1040,404708000,-;EXT4-fs (dm-1): mounted filesystem\n"
FORKED = b"5,1041,404730367,-;random: crng reseeded due to virtual machine fork\n"


class Callbacks(Loop):
    """A file's end never is an event: this calls back when told."""

    def __init__(self) -> None:
        super().__init__()
        self.of: dict[int, Callable[[int], None]] = {}

    def watch(self, fileno: int, callback: Callable[[int], None], events: int = 1) -> None:
        self.of[fileno] = callback


def test_what_the_log_says_from_now_on_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "kmsg"
    log.write_bytes(OTHER + FORKED)
    told: list[str] = []
    with log.open("rb") as opened:
        monkeypatch.setattr(vmgeneration, "descriptors", lambda: {opened.fileno(): LOG})
        loop = Callbacks()
        watch = GenerationWatch(loop, told.append)
        for record, expected in ((b"", []), (OTHER, []), (FORKED, [RESTORED])):
            with log.open("ab") as more:
                more.write(record)
            loop.of[opened.fileno()](1)
            assert told == expected
        watch.close()


@pytest.mark.parametrize("restorings", [True, False])
def test_what_would_not_be_heard_is_told(
    restorings: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vmgeneration, "descriptors", dict)
    monkeypatch.setattr(vmgeneration, "has_generation_id", lambda: restorings)
    loop = Callbacks()
    GenerationWatch(loop, lambda why: None).close()
    assert len(loop.of) == 1, "the uevents are listened for all the same"
    assert ("restoring-unheard" in capsys.readouterr().err) == restorings


def test_a_driver_without_a_device_says_that_there_are_no_restorings(tmp_path: Path) -> None:
    driver = tmp_path / "platform" / "drivers" / "vmgenid"
    assert not has_generation_id(tmp_path)
    driver.mkdir(parents=True)
    (driver / "module").symlink_to(tmp_path)
    (driver / "bind").touch()
    assert not has_generation_id(tmp_path)
    (driver / "QEMUVGID:00").symlink_to(tmp_path)
    assert has_generation_id(tmp_path)
