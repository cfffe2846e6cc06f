"""A lab for a benchmark: made by `qbb lab up`, removed at the end of the `with` block."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.client import Client
from appliance.lab import file, record
from appliance.lab.model import LabFile
from appliance.services.control import ask

UP_S = 150.0
COMMAND = [sys.executable, "-m", "appliance.cli.main", "lab"]


class Lab:
    """`up_s`: from the command to all links up and all routes known at every node."""

    def __init__(self, design: LabFile, found: record.Recorded, up_s: float) -> None:
        self.design, self.up_s = design, up_s
        self._found = found

    def ask(self, node: str, unit: str, command: str, **arguments: Any) -> Any:
        """Raises NoAnswer, Refused."""
        return ask(self._runtime(node) / f"{unit}.control", command, **arguments)

    def keeper(self, command: str, **arguments: Any) -> Any:
        """cut, mend, tap ...: appliance/lab/keeper.py."""
        return ask(record.control(self.design.name), command, timeout_s=60.0, **arguments)

    def links(self, node: str) -> dict[str, dict[str, Any]]:
        """Status of a node's links, by name."""
        return {link["name"]: link for link in self.ask(node, "dataplane", "status")["links"]}

    def client(self, node: str, timeout_s: float = 15.0) -> Client:
        return Client(self._runtime(node) / "pfkey.sock", timeout_s)

    def log(self, node: str, unit: str) -> str:
        """What a unit has told so far."""
        return (Path(self._found.directory) / f"{node}-{unit}.log").read_text()

    def _runtime(self, node: str) -> Path:
        return Path(self._found.nodes[node]) / "run"


@contextlib.contextmanager
def lab(text: str) -> Iterator[Lab]:
    """`text`: a lab file but for [lab] name, which is made here: no two benchmarks share one."""
    name = f"bench-{os.getpid()}-{time.monotonic_ns() % 10**9}"
    with tempfile.TemporaryDirectory(prefix="qbb-bench-") as folder:
        path = Path(folder) / "lab.toml"
        path.write_text(text.replace("[lab]\n", f'[lab]\nname = "{name}"\n', 1))
        try:
            began_s = time.monotonic()
            words = [*COMMAND, "up", str(path), "--timeout", str(UP_S)]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            up_s = time.monotonic() - began_s
            if done.returncode:
                raise OSError(f"qbb lab up: {done.stdout}{done.stderr}")
            found = record.read(name)
            assert found is not None
            yield Lab(file.load(path), found, up_s)
        finally:
            record.end(name)
