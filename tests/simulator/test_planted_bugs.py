"""Real mistakes, planted one at a time in a copy of the source, must each be caught; the copy without them must pass.

A test that never failed proves nothing: these show that the simulator with its key oracle, and the tests named in
planted/, see what they are there to see.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .planting import PLANTED, Mistake, Scratch

MISTAKES = {path.stem: Mistake.read(path) for path in sorted(PLANTED.glob("*.txt"))}
RUNS = {(mistake.by, mistake.what): mistake for mistake in MISTAKES.values()}


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scratch]:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with TemporaryDirectory() as folder:
        yield Scratch(Path(folder), shared / "planted-objects")


@pytest.mark.parametrize("name", MISTAKES)
def test_planted_mistake_is_caught(scratch: Scratch, name: str) -> None:
    mistake = MISTAKES[name]
    scratch.plant(mistake)
    scratch.build(mistake.sources_in_c)
    done = scratch.run(mistake)
    said = done.stdout + done.stderr
    assert done.returncode != 0, f"not caught: {mistake.sentence}"
    assert re.search(mistake.sign, said), f"caught, but not for what it is: {mistake.sentence}\n{said[-3000:]}"


@pytest.mark.parametrize("run", RUNS, ids=" ".join)
def test_without_mistakes_the_same_runs_pass(scratch: Scratch, run: tuple[str, str]) -> None:
    scratch.build()
    done = scratch.run(RUNS[run])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_there_are_enough() -> None:
    assert len(MISTAKES) >= 14
