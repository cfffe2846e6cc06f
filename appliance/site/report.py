"""What appliance-site tells the console, in a file under /run: what is wrong with this machine and how to mend it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path("/run/appliance-site")
REPORT = FOLDER / "report.json"


@dataclass(frozen=True)
class Trouble:
    what: str
    remedy: str


@dataclass
class Report:
    node: str = ""  # name of the node, empty when there is no good node file
    changed: bool = False  # is something else kept than before?
    troubles: list[Trouble] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)  # network cards that the node file names, by device or mac

    def trouble(self, what: str, remedy: str) -> None:
        self.troubles.append(Trouble(what, remedy))

    def write(self, path: Path = REPORT) -> None:
        """Raises OSError."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(self)))
        new.rename(path)


def read(path: Path = REPORT) -> Report | None:
    """None when appliance-site has not told yet."""
    try:
        raw: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return Report(raw["node"], raw["changed"], [Trouble(**trouble) for trouble in raw["troubles"]], raw["cards"])
