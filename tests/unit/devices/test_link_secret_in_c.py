"""csrc/tests/test_linksecret.c under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

CSRC = Path(__file__).resolve().parents[3] / "csrc"
SOURCES = ["tests/test_linksecret.c", "io/linksecret.c", "io/expand.c", "io/keymem.c", "core/wipe.c"]
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fsanitize=address,undefined"]


def test_link_secrets_and_blocks_under_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "test_linksecret"
    includes = [f"-I{CSRC / folder}" for folder in ("core", "io")]
    sources = [str(CSRC / source) for source in SOURCES]
    command = ["gcc", *FLAGS, "-fno-sanitize-recover=all", *includes, *sources, "-lcrypto", "-o", str(program)]
    subprocess.run(command, check=True, timeout=300)
    run = subprocess.run([str(program)], capture_output=True, text=True, timeout=300, check=False)
    assert (run.returncode, run.stderr) == (0, "")
