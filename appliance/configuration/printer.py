"""NodeConfig to TOML text that parses back to the same NodeConfig."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appliance.configuration import schema
from appliance.configuration.model import NodeConfig
from appliance.configuration.table import Table


def _settings(value: Any, table: Table) -> Iterator[str]:
    for setting in table.settings:
        held = getattr(value, setting.name)
        if held is not None:
            yield f"{setting.name} = {setting.kind.show(held)}"


def _lines(value: Any, table: Table, header: str) -> Iterator[str]:
    yield f"[[{header}]]" if table.many else f"[{header}]"
    yield from _settings(value, table)
    yield ""
    for inner in table.tables:
        for item in getattr(value, inner.field):
            yield from _lines(item, inner, f"{header}.{inner.name}")


def show(config: NodeConfig) -> str:
    """All settings, defaults too. Of secrets the configuration holds only the names of their files."""
    lines: list[str] = []
    for table in schema.TABLES:
        value: Any = getattr(config, table.field) if table.field else config
        for item in value if table.many else [value]:
            lines += _lines(item, table, table.name)
    return "\n".join(lines)
