"""The client's tests use the lab of tests/unit/keys."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "keys"))

from keys_lab import Lab


@pytest.fixture
def lab(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Lab(tmp_path)
    made.start()
    yield made
    made.close()
