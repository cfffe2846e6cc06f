"""Where the key went. Each end counts what it spends in its own direction; both ends together are the link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance.demo.square import Square
from appliance.q3p.records import EMPTY_DIGEST, Store, Void, decode, read_frames

# What delivering keys costs, and what a link costs by itself.
FOR_KEYS = {"pad": "padding", "tag_data": "tags", "tag_ack": "acks"}
BY_ITSELF = {"store": "new key", "tag_control": "control", "tag_routing": "OSPF", "lost": "given up"}

Spent = dict[str, Counter[str]]  # link -> bytes by cause


def spent(square: Square) -> Spent:
    """Bytes at both ends together, since each data plane last started."""
    total: Spent = {link: Counter() for link in square.links}
    for node in square.nodes:
        for link, status in (square.plane(node) or {}).items():
            if link in total:
                total[link].update(status["spent_bytes"])
    return total


def between(before: Spent, after: Spent) -> Spent:
    return {link: after[link] - before[link] for link in after}


def per_byte(spent_bytes: Mapping[str, int], causes: Iterable[str]) -> float:
    """Per byte of session key that crossed the link: the pad is as long as that."""
    return sum(spent_bytes.get(cause, 0) for cause in causes) / max(1, spent_bytes.get("pad", 0))


@dataclass(frozen=True)
class Log:
    """What a link's log says of its whole life, in bytes."""

    stored: int
    given_up: int
    chunks_given_up: int


def read_log(path: Path) -> Log:
    """Of the log's own records: what was stored, and what was voided (open at a restart, so nobody knows how far it
    was spent)."""
    sizes: dict[int, int] = {}
    void: set[int] = set()
    for record, _, _ in read_frames(path.read_bytes(), 0, 0, EMPTY_DIGEST):
        match decode(record):
            case Store() as store:
                sizes[store.chunk] = sum(entry.length_bytes for entry in store.entries)
            case Void() as voided:
                void.update(voided.chunks)
    return Log(sum(sizes.values()), sum(sizes.get(chunk, 0) for chunk in void), len(void))


def pads(links: dict[str, dict[str, Any]], names: Iterable[str]) -> Counter[str]:
    """Bytes of session key that a node sent by each of its links, which are those of pad that it spent."""
    return Counter({name: links[name]["spent_bytes"]["pad"] for name in names})
