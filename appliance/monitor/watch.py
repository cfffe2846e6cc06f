"""Alarms over time. Time is passed in; the owner calls `seen` with each round of answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from appliance.monitor.alarms import Alarm, Answers, standing

FORGED_HOLD_S = 300.0  # so long after the last wrong tag the alarm stands


@dataclass
class Changes:
    came: list[Alarm]
    went: list[Alarm]


@dataclass
class Watch:
    """What stands, and since when."""

    _alarms: dict[tuple[str, str], tuple[Alarm, float]] = field(default_factory=dict)
    _tags: dict[str, int] = field(default_factory=dict)  # wrong tags of each link, as last told
    _forged: dict[str, tuple[float, int]] = field(default_factory=dict)  # by link: when last, how many while it stands

    def seen(self, answers: Answers, now_s: float) -> Changes:
        before = self._alarms
        found = [*standing(answers), *self._forgeries(answers.get("dataplane"), now_s)]
        since = {alarm.identity: before[alarm.identity][1] for alarm in found if alarm.identity in before}
        self._alarms = {alarm.identity: (alarm, since.get(alarm.identity, now_s)) for alarm in found}
        came = [alarm for alarm, _ in self._alarms.values() if alarm.identity not in before]
        went = [alarm for alarm, _ in before.values() if alarm.identity not in self._alarms]
        return Changes(came, went)

    def _forgeries(self, plane: Any, now_s: float) -> Iterator[Alarm]:
        """Packets whose tag did not verify: noise on the line does not pass UDP's checksum, so somebody made them."""
        for link in (plane or {}).get("links", ()):
            name, count = str(link["name"]), int(link.get("counters", {}).get("tag", 0))
            new = count - self._tags.get(name, count)
            self._tags[name] = count
            if new > 0:
                self._forged[name] = now_s, self._forged.get(name, (0.0, 0))[1] + new
        for name, (last_s, count) in list(self._forged.items()):
            if now_s - last_s > FORGED_HOLD_S:
                del self._forged[name]
            else:
                yield Alarm(
                    "forged", name, name, True, f"{count} packets with a wrong tag: somebody forges, or disturbs"
                )

    def standing(self, now_s: float) -> list[dict[str, Any]]:
        """For people and programs, critical ones first."""
        rows = sorted(self._alarms.values(), key=lambda row: (not row[0].critical, row[0].about, row[0].kind))
        return [
            {
                "alarm": alarm.kind,
                "about": alarm.about,
                "link": alarm.link,
                "critical": alarm.critical,
                "text": alarm.text,
                "age_s": round(now_s - since_s, 1),
            }
            for alarm, since_s in rows
        ]

    @property
    def health(self) -> str:
        """good, degraded (something needs a look), or critical (keys do not flow, or somebody may be listening)."""
        if any(alarm.critical for alarm, _ in self._alarms.values()):
            return "critical"
        return "degraded" if self._alarms else "good"
