"""What is written from tables is up to date, and roff takes it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.cli import manual
from appliance.cli.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", sorted(manual.files()))
def test_the_file_in_the_tree_is_what_the_tables_say(name: str) -> None:
    assert (ROOT / name).read_text() == manual.files()[name], "run: python -m appliance.cli.manual"


def test_every_command_has_its_section() -> None:
    page = manual.command_page()
    for command in COMMANDS:
        assert f".SS qbb {' '.join(command.words)}" in page


def test_generating_writes_the_files(tmp_path: Path) -> None:
    assert manual.main([str(tmp_path)]) == 0
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(manual.files())


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", ["packaging/qbb.1", "packaging/qbb-node.toml.5"])
def test_roff_has_nothing_to_say(name: str) -> None:
    run = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-z", str(ROOT / name)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stderr == ""


@pytest.mark.parametrize(("text", "expected"), [(".x", "\\&.x"), ("a-b", "a\\-b"), ("back\\slash", "back\\eslash")])
def test_roff_escapes(text: str, expected: str) -> None:
    assert manual.roff(text) == expected
