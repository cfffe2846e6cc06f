"""What is wrong with a configuration: every problem, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class WrongValue(ValueError):
    """A value that a kind refuses. `right` replaces the kind's own words on what would be right."""

    def __init__(self, wrong: str, right: str = "") -> None:
        super().__init__(wrong)
        self.wrong = wrong
        self.right = right


@dataclass(frozen=True)
class Problem:
    """`place` reads like ``link "paris".listen``; `line` is 0 when it is not known."""

    place: str
    wrong: str
    right: str
    source: str = ""
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        parts = [part for part in (where, self.place) if part]
        sentence = f"{self.wrong}; {self.right}" if self.right else self.wrong
        return ": ".join([*parts, sentence])


class ConfigurationErrors(Exception):
    """Everything that is wrong, in the order of the file."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        super().__init__("\n".join(str(problem) for problem in self.problems))
