"""Where the key went. Each end counts what it spends in its own direction; both ends together are the link."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from appliance.lab import Node
from appliance.q3p.records import EMPTY_DIGEST, Store, Void, decode, read_frames

CAUSES = {
    "pad": "encrypting the keys, unused stock too",
    "tag_data": "authenticating them",
    "tag_ack": "acknowledgements",
    "tag_control": "control of the link",
    "tag_routing": "routing",
    "store": "comparing new key from the fibres",
    "lost": "packets given up",
}


def spent(nodes: list[Node]) -> Counter[str]:
    """Bytes spent by cause, at all ends together, since each data plane last started."""
    total: Counter[str] = Counter()
    for node in nodes:
        for link in node.ask("dataplane", "status")["links"]:
            total.update(link["spent_bytes"])
    return total


@dataclass(frozen=True)
class Log:
    """What a link's log says of its whole life, in bytes."""

    stored: int
    given_up: int
    chunks_given_up: int


def read_log(node: Node, link: str) -> Log:
    """Of the log's own records: what was stored, and what was voided (open at a restart, so nobody knows how far it
    was spent)."""
    data = (node.disk / "dataplane" / link / "log").read_bytes()
    sizes: dict[int, int] = {}
    void: set[int] = set()
    for record, _, _ in read_frames(data, 0, 0, EMPTY_DIGEST):
        match decode(record):
            case Store() as store:
                sizes[store.chunk] = sum(entry.length_bytes for entry in store.entries)
            case Void() as voided:
                void.update(voided.chunks)
    return Log(sum(sizes.values()), sum(sizes.get(chunk, 0) for chunk in void), len(void))
