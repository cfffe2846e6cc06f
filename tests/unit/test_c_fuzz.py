"""Every fuzzer of csrc/fuzz over its kept corpus, for FUZZ_SECONDS each (default 5)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "csrc" / "fuzz"
NAMES = sorted(path.stem.removeprefix("fuzz_") for path in FOLDER.glob("fuzz_*.c"))
BUILD_TIMEOUT_S = 300


def test_every_fuzzer_has_a_corpus() -> None:
    assert {"channel", "link", "open", "packet", "shmring"} <= set(NAMES)
    for name in NAMES:
        assert any((FOLDER / "corpus" / name).iterdir()), name


@pytest.mark.parametrize("name", NAMES)
def test_fuzzer(name: str) -> None:
    """libFuzzer ends with an error at the first input that breaks an invariant or stops a sanitizer."""
    timeout_s = BUILD_TIMEOUT_S + 4 * int(os.environ.get("FUZZ_SECONDS", "5"))
    run = subprocess.run(
        ["make", "-s", "-C", str(FOLDER), f"check-{name}"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
