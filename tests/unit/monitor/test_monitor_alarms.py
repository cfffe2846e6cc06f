"""From the units' answers to alarms, and alarms over time."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.monitor.alarms import Alarm, standing
from appliance.monitor.watch import FORGED_HOLD_S, Watch

LINK: dict[str, Any] = {
    "name": "paris",
    "state": "up",
    "usable": True,
    "cause": "",
    "store_state": "ready",
    "counters": {"tag": 7},
}
DEVICE: dict[str, Any] = {"name": "p1", "link": "paris", "state": "exchanging", "qber": 0.03, "alarms": []}


def answers(link: dict[str, Any] | None = None, device: dict[str, Any] | None = None, **units: Any) -> dict[str, Any]:
    good = {
        "dataplane": {"links": [LINK | (link or {})]},
        "keys": {"data_plane": True},
        "routing": {"causes": []},
        "device-p1": DEVICE | (device or {}),
    }
    return good | units


def disk(free_mib: int, size_mib: int = 4096) -> dict[str, Any]:
    return {"path": "/state", "free_bytes": free_mib << 20, "size_bytes": size_mib << 20}


def kinds(found: list[Alarm]) -> list[tuple[str, str]]:
    return [alarm.identity for alarm in found]


def test_nothing_is_wrong() -> None:
    assert standing(answers(disk=disk(free_mib=1000))) == []
    assert standing(answers(disk=disk(free_mib=300, size_mib=1 << 20))) == []
    assert standing(answers(disk={})) == [], "it cannot be told"


@pytest.mark.parametrize(
    ("seen", "identity", "critical", "words"),
    [
        (answers({"usable": False, "cause": "the peer is silent"}), ("link-down", "paris"), True, "the peer is silent"),
        (answers({"usable": False, "state": "hello"}), ("link-down", "paris"), True, "state hello"),
        (answers({"usable": False, "state": "quarantine"}), ("link-quarantined", "paris"), True, "cannot be trusted"),
        (answers({"no_room": "Read-only file system"}), ("store-full", "paris"), False, "Read-only file system"),
        (answers({"used_names": "device p1: it was used"}), ("block-names", "paris"), False, "device p1: it was used"),
        (answers({"store_state": "low"}), ("store-low", "paris"), False, "run out"),
        (answers(None, {"alarms": ["qber"], "qber": 0.153}), ("device-qber", "p1"), True, "15.3% of the bits"),
        (answers(None, {"alarms": ["no-light"]}), ("device-no-light", "p1"), True, "no light"),
        (answers(None, {"alarms": ["stalled"]}), ("device-stalled", "p1"), True, "no block"),
        (answers(None, {"state": "no fibre"}), ("device-apart", "p1"), True, "not reached"),
        (answers(keys=None), ("unit-silent", "keys"), True, "qbb-keys does not answer"),
        (answers(keys={"data_plane": False}), ("keys-apart", "keys"), True, "no connection"),
        (answers(keys={"source": "stopped: /dev/hwrng failed"}), ("key-source", "keys"), True, "/dev/hwrng failed"),
        (answers(disk=disk(free_mib=15)), ("disk-full", "/state"), True, "15 MiB of 4096 MiB are free at /state"),
        (answers(disk=disk(free_mib=200)), ("disk-full", "/state"), False, "make room"),
        (answers(routing={"causes": ["ospfd is gone"]}), ("routing", "routing"), False, "ospfd is gone"),
    ],
)
def test_each_fault_is_one_alarm(seen: dict[str, Any], identity: tuple[str, str], critical: bool, words: str) -> None:
    found = standing(seen)
    assert kinds(found) == [identity]
    assert found[0].critical is critical
    assert words in found[0].text


def test_a_dead_data_plane_is_not_also_reported_by_what_hangs_on_it() -> None:
    assert kinds(standing(answers(dataplane=None, keys={"data_plane": False}))) == [("unit-silent", "dataplane")]


def test_critical_ones_come_first() -> None:
    found = standing(answers({"store_state": "low"}, {"alarms": ["qber"]}))
    assert kinds(found) == [("device-qber", "p1"), ("store-low", "paris")]


def test_an_alarm_keeps_its_beginning_while_its_words_change() -> None:
    watch = Watch()
    assert watch.health == "good"
    changes = watch.seen(answers({"usable": False, "cause": "no light"}), 10.0)
    assert kinds(changes.came) == [("link-down", "paris")]
    changes = watch.seen(answers({"usable": False, "cause": "the peer is silent"}), 14.0)
    assert (changes.came, changes.went) == ([], [])
    (row,) = watch.standing(15.0)
    assert (row["age_s"], "the peer is silent" in row["text"]) == (5.0, True)
    assert watch.health == "critical"
    changes = watch.seen(answers({"store_state": "low"}), 20.0)
    assert (kinds(changes.came), kinds(changes.went)) == ([("store-low", "paris")], [("link-down", "paris")])
    assert watch.health == "degraded"


def test_forged_packets_stand_for_a_while_and_old_ones_do_not_count() -> None:
    watch = Watch()
    assert watch.seen(answers(), 0.0).came == [], "seven wrong tags from before we looked"
    changes = watch.seen(answers({"counters": {"tag": 9}}), 1.0)
    assert kinds(changes.came) == [("forged", "paris")]
    watch.seen(answers({"counters": {"tag": 12}}), 2.0)
    assert watch.standing(2.0)[0]["text"].startswith("5 packets")
    watch.seen(answers({"counters": {"tag": 0}}), 3.0)  # the data plane started again
    assert watch.standing(3.0)
    changes = watch.seen(answers({"counters": {"tag": 0}}), 2.0 + FORGED_HOLD_S + 1)
    assert kinds(changes.went) == [("forged", "paris")]
