"""Asking the units. A unit that does not answer becomes a sentence that says what to try."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import config
from appliance.services import control


class Failed(Exception):
    """What went wrong, for people; `hint` says what to try."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def unit_name(unit: str) -> str:
    """systemd's name: dataplane -> qbb-dataplane, device-x -> qbb-device@x."""
    return f"qbb-device@{unit.removeprefix('device-')}" if unit.startswith("device-") else f"qbb-{unit}"


@dataclass(frozen=True)
class Node:
    """The node whose units are asked."""

    config: config.NodeConfig

    @classmethod
    def of(cls, path: Path) -> Node:
        """Raises Failed when the configuration has problems."""
        try:
            return cls(config.load(path))
        except config.ConfigurationErrors as errors:
            listed = "\n".join(str(problem) for problem in errors.problems)
            raise Failed(listed, f"qbb --config {path} check shows all problems") from None

    def ask(self, unit: str, command: str, **arguments: Any) -> Any:
        """Raises Failed."""
        path = self.config.control_socket(unit)
        name = unit_name(unit)
        try:
            return control.ask(path, command, **arguments)
        except control.NoAnswer as silent:
            reason = str(silent).rpartition(": ")[2]
            raise Failed(
                f"{name} does not answer at {path} ({reason}): is it running?", f"systemctl status {name}"
            ) from None
        except control.Refused as refused:
            raise Failed(f"{name} refused: {refused}") from None

    def try_ask(self, unit: str, command: str) -> tuple[Any, str]:
        """(answer, ""), or (None, what went wrong)."""
        try:
            return self.ask(unit, command), ""
        except Failed as failed:
            return None, str(failed)

    def link_status(self, name: str) -> dict[str, Any]:
        """Raises Failed."""
        links = self.ask("dataplane", "status")["links"]
        for link in links:
            if link["name"] == name:
                return dict(link)
        raise Failed(f"there is no link {name}", f"links are {', '.join(link['name'] for link in links)}")
