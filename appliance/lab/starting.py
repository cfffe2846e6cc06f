"""Starting a lab that a keeper keeps: for `qbb lab up`, and for whoever needs a network for a while.

with starting(lab, path) as keeper:      whatever goes wrong inside, nothing stays
    build(keeper, tell)
    missing = wait(lab, tell, limit_s)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from appliance.config import RoutingConfig
from appliance.lab import record
from appliance.lab.model import LabFile
from appliance.lab.process import WITH_US
from appliance.lab.record import Recorded
from appliance.services import frr
from appliance.services.control import NoAnswer, ask

POLL_S = 0.25
KEEPER_S = 120.0  # for what the keeper is asked to do
WITH_US_IN_ORDER = (*WITH_US[:-1], "TERM")

Keeper = subprocess.Popen[bytes]
Tell = Callable[[str, int, int], None]  # stage, done, of so many
Missing = dict[tuple[str, str], str]  # (node, what is not up) -> why


class CannotStart(Exception):
    """Why, and what to try."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint


def check(lab: LabFile) -> None:
    """That it can run on this machine, and that no other of its name does. Raises CannotStart."""
    if os.geteuid() != 0:
        raise CannotStart("a lab needs root: it makes network namespaces")
    if lab.routing == "ospf":
        try:
            frr.check(RoutingConfig().frr)
        except frr.Missing as missing:
            raise CannotStart(str(missing), 'or routing = "static" in [lab]') from None
    if record.kept(lab.name):
        raise CannotStart(f"lab {lab.name} runs already", f"qbb lab status {lab.name}, or down")


@contextlib.contextmanager
def starting(lab: LabFile, path: Path, with_us: bool = False) -> Iterator[Keeper]:
    """The keeper's process. It goes on after the block, which is left by an exception only when the lab is removed
    again. `with_us`: it ends, in order, when this process does, however that ends."""
    keeper = _start_keeper(lab, path, WITH_US_IN_ORDER if with_us else ())
    try:
        yield keeper
    except BaseException:
        _abandon(keeper, lab.name)
        raise


def _start_keeper(lab: LabFile, path: Path, prefix: Sequence[str]) -> Keeper:
    """In a session of its own: it outlives us, and Ctrl-C is for us to act upon."""
    record.place(lab.name).mkdir(mode=0o700, parents=True, exist_ok=True)
    with (record.place(lab.name) / "keeper.log").open("ab") as log:
        words = [*prefix, sys.executable, "-m", "appliance.lab.keeper", str(path)]
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )


def _abandon(keeper: Keeper, name: str) -> None:
    """Whatever happened, and however often Ctrl-C is pressed, nothing stays."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if keeper.poll() is None:
            keeper.terminate()
            keeper.wait()
        if not record.kept(name):
            record.end(name)
    finally:
        signal.signal(signal.SIGINT, before)


def build(keeper: Keeper, tell: Tell) -> None:
    """Until all units run. Raises CannotStart."""
    assert keeper.stdout is not None
    for line in keeper.stdout:
        message = json.loads(line)
        if "error" in message:
            raise CannotStart(message["error"])
        if "started" in message:
            return
        tell(message["stage"], message["done"], message["total"])
    raise CannotStart(f"the lab's keeper ended with status {keeper.wait()}")


def wait(lab: LabFile, tell: Tell, until_s: float) -> Missing:
    """Ends of links that are not up, and why: empty as soon as all are. Raises CannotStart."""
    found = record.read(lab.name)
    assert found is not None
    missing = {(node, f"link {link.name}"): "not asked yet" for link in lab.links for node in link.ends}
    missing |= {(node.name, "routes"): "not asked yet" for node in lab.nodes}
    total = len(missing)
    while missing and time.monotonic() < until_s:
        if not found.alive:
            raise CannotStart(f"lab {lab.name} died", f"its last words are in {record.place(lab.name)}/keeper.log")
        for node in sorted({node for node, _ in missing}):
            for what, why in _lacking(found, lab, node).items():
                missing[node, what] = why
        missing = {end: why for end, why in missing.items() if why}
        tell("up", total - len(missing), total)
        time.sleep(POLL_S if missing else 0)
    return missing


def _lacking(found: Recorded, lab: LabFile, node: str) -> dict[str, str]:
    """Of a node's links and its routes why they are not what they should be; "" when they are. Empty when the data
    plane is silent."""
    with contextlib.suppress(NoAnswer):
        links = node_ask(found, node, "dataplane", "status")["links"]
        lacking = {f"link {link['name']}": "" if link["usable"] else _why(link) for link in links}
        ways = node_ask(found, node, "dataplane", "routes")["routes"]
        return lacking | {"routes": _unreached(lab, ways)}
    return {}


def _unreached(lab: LabFile, ways: list[dict[str, Any]]) -> str:
    known = [IPv4Network(way["prefix"]) for way in ways if way["local"] or way["ways"]]
    names = [node.name for node in lab.nodes if not any(node.address in prefix for prefix in known)]
    return f"none to {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}" if names else ""


def _why(link: dict[str, Any]) -> str:
    return f"{link['state']}, store {link['store_state']}" + (f", {link['cause']}" if link["cause"] else "")


def node_ask(found: Recorded, node: str, unit: str, word: str, **arguments: Any) -> Any:
    """Asks a unit of a node. Raises NoAnswer and Refused."""
    return ask(found.runtime(node) / f"{unit}.control", word, **arguments)


def keeper_ask(name: str, word: str, **arguments: Any) -> Any:
    """Has the keeper do something: the commands are in keeper.py. Raises NoAnswer and Refused."""
    return ask(record.control(name), word, timeout_s=KEEPER_S, **arguments)
