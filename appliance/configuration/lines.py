"""Where in a TOML text a setting stands. The TOML reader does not tell, so this looks
for headers and keys itself.

Good for error messages only: what it cannot place (keys in inline tables) falls back to what is around it.
"""

from __future__ import annotations

import re

Place = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=")


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_KEY, dotted)]


def _resolve(parts: list[str], counts: dict[Place, int], array: bool) -> Place:
    """The header's place with array positions filled in: ("link", 0, "device", 1)."""
    place: Place = ()
    for position, part in enumerate(parts):
        place = (*place, part)
        if array and position == len(parts) - 1:
            counts[place] = counts.get(place, 0) + 1
        if place in counts:
            place = (*place, counts[place] - 1)
    return place


def locate(text: str) -> dict[Place, int]:
    """Line (from 1) of each table and key."""
    found: dict[Place, int] = {}
    counts: dict[Place, int] = {}
    current: Place = ()
    inside = ""  # the quotes of a multi-line string
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            if header := _HEADER.match(line):
                current = _resolve(_parts(header[2]), counts, header[1] == "[[")
                found.setdefault(current, number)
            elif assignment := _ASSIGNMENT.match(line):
                found.setdefault((*current, *_parts(assignment[1])), number)
        for quotes in re.findall(r'"""|\'\'\'', line):
            inside = quotes if not inside else ("" if inside == quotes else inside)
    return found


def line_of(found: dict[Place, int], place: Place) -> int:
    """The line of the place or of the nearest thing around it; 0 when nothing is known."""
    while place:
        if place in found:
            return found[place]
        place = place[:-1]
    return 0
