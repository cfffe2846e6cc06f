"""From the units' answers (services/control.py has their shapes) to the alarms that stand.

Beside the units' there is one more answer, `disk`: {"path", "free_bytes", "size_bytes"} of the node's state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Answers = Mapping[str, Any]  # by unit; None for a unit that does not answer
LOW_SHARE, LOW_BYTES = 0.05, 256 << 20  # of a disk, whichever is less: time to make room
FULL_BYTES = 16 << 20  # blocks and logs of a few minutes


@dataclass(frozen=True, slots=True)
class Alarm:
    """`kind` and what it is about make it the same alarm; `text` may change while it stands. `critical`: keys do not
    flow, or somebody may be listening."""

    kind: str
    about: str  # a link, a device, a unit
    link: str | None
    critical: bool
    text: str

    @property
    def identity(self) -> tuple[str, str]:
        return self.kind, self.about


def standing(answers: Answers) -> list[Alarm]:
    """All alarms, by what they are about."""
    found: list[Alarm] = []
    for unit, answer in answers.items():
        if answer is None:
            found.append(Alarm("unit-silent", unit, None, True, f"qbb-{unit} does not answer"))
    found += _links(answers.get("dataplane") or {})
    found += _devices(answers)
    found += _routing(answers)
    found += _keys(answers.get("keys") or {}, bool(answers.get("dataplane")))
    found += _disk(answers.get("disk") or {})
    return sorted(found, key=lambda alarm: (not alarm.critical, alarm.about, alarm.kind))


def _keys(keys: Mapping[str, Any], data_plane: bool) -> Iterator[Alarm]:
    if data_plane and not keys.get("data_plane", True):
        yield Alarm("keys-apart", "keys", None, True, "the keys service has no connection to the data plane")
    source = str(keys.get("source", ""))
    if source.startswith("stopped"):
        yield Alarm("key-source", "keys", None, True, f"no key is drawn any more: {source}")


def _disk(disk: Mapping[str, Any]) -> Iterator[Alarm]:
    """A full disk stops links, since what is not durable is not used."""
    if not disk:
        return
    path, free, whole = str(disk["path"]), int(disk["free_bytes"]), int(disk["size_bytes"])
    if free < max(FULL_BYTES, min(LOW_BYTES, LOW_SHARE * whole)):
        words = f"{free >> 20} MiB of {whole >> 20} MiB are free at {path}: make room"
        yield Alarm("disk-full", path, None, free < FULL_BYTES, words)


def _links(plane: Mapping[str, Any]) -> Iterator[Alarm]:
    for link in plane.get("links", ()):
        name, store = str(link["name"]), str(link.get("store_state"))
        cause = link.get("cause") or f"it is in state {link.get('state')}"
        if link.get("state") == "quarantine" or store == "quarantined":
            yield Alarm("link-quarantined", name, name, True, f"its key log cannot be trusted: {cause}")
        elif not link.get("usable"):
            yield Alarm("link-down", name, name, True, f"carries no keys: {cause}")
        elif store == "low":
            yield Alarm("store-low", name, name, False, "more key is spent than made: it will run out")
        if why := link.get("no_room"):
            yield Alarm("store-full", name, name, False, f"the store takes no new key: {why}")
        if used := link.get("used_names"):
            yield Alarm("block-names", name, name, False, f"blocks come under names that were used: {used}")


def _devices(answers: Answers) -> Iterator[Alarm]:
    """What the device's own unit says, which knows first; a silent unit is an alarm already."""
    for unit, device in answers.items():
        if not unit.startswith("device-") or device is None:
            continue
        name, link = str(device["name"]), str(device["link"])
        for cause in device.get("alarms", ()):
            yield Alarm(f"device-{cause}", name, link, True, _device_words(str(cause), device))
        if device.get("state") == "no fibre":
            yield Alarm("device-apart", name, link, True, "the device is not reached")


def _device_words(cause: str, device: Mapping[str, Any]) -> str:
    if cause == "qber":
        return f"{device.get('qber', 0.0):.1%} of the bits are wrong: somebody may be listening on the fibre"
    return {"no-light": "no light arrives", "stalled": "no block for a long time"}.get(cause, cause)


def _routing(answers: Answers) -> Iterator[Alarm]:
    for cause in (answers.get("routing") or {}).get("causes", ()):
        yield Alarm("routing", "routing", None, False, str(cause))
