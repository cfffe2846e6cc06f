"""What a schema is made of: rows of settings in tables.

A default of REQUIRED means that the setting must be given, None that it may be left out. A Derived is
computed from the table's other settings. A table's `rules` are what no single row can say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.configuration import values as v

REQUIRED = object()


@dataclass(frozen=True)
class Derived:
    """A default that follows from other settings of the table; `words` say how, for the manual."""

    words: str
    compute: Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True)
class Setting:
    name: str
    kind: v.Kind
    default: Any
    help: str
    unit: str = ""  # of the value in Python and of a bare number
    secret: bool = False  # names a file with a secret: 0600, never printed itself


Rule = Callable[[Mapping[str, Any]], Iterator[tuple[str, str, str]]]  # (setting, what is wrong, what is right)


@dataclass(frozen=True)
class Table:
    """`field` is the name in the dataclass of the table above; `many` tables are written [[name]]."""

    name: str
    field: str
    many: bool
    help: str
    settings: tuple[Setting, ...]
    tables: tuple[Table, ...] = ()
    rules: tuple[Rule, ...] = ()
    needed: bool = False  # of many, at least one
