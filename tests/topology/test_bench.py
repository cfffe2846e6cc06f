"""Every benchmark runs to its end, in its quick form, and gives rows. How fast anything is is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.__main__ import BENCHES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
LIMIT_S = 580


@pytest.mark.parametrize("name", BENCHES)
def test_benchmark_gives_rows(name: str, tmp_path: Path) -> None:
    told = tmp_path / "rows.json"
    words = [sys.executable, "-m", "tests.bench", "--quick", "--only", name, "--json", str(told)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    said = done.stdout + done.stderr
    assert told.exists(), said
    content = json.loads(told.read_text())
    assert not content["failed"], said
    assert content["rows"] or content["skipped"], said  # on one processor some say that they need two
    for row in content["rows"]:
        assert row["measured"]["value"] > 0, row
        assert row["reference"], row
