"""What one end concludes: the table at the head of alarms.py, line by line."""

from __future__ import annotations

from random import Random

from appliance.devices.alarms import Alarm, Judge
from appliance.devices.simulated import Batch, Exchange, Fibre

GOOD = Batch(2_000_000, 12_000, 6_000, 200)
TAPPED = Batch(2_000_000, 12_000, 6_000, 900)
DARK = Batch(2_000_000, 4, 2, 1)


def judge() -> Judge:
    return Judge(0.0, qber_alarm=0.11, clear_after_blocks=3, stalled_after_s=30.0)


def causes(alarms: list[Alarm]) -> list[tuple[str, bool]]:
    return [(alarm.cause, alarm.on) for alarm in alarms]


def test_good_batches_and_blocks_raise_nothing() -> None:
    some = judge()
    assert some.batch(1.0, GOOD) == []
    assert some.block(2.0, 0.03) == (True, [])
    assert some.qber == 200 / 6000


def test_errors_raise_once_and_good_blocks_clear() -> None:
    some = judge()
    assert causes(some.batch(1.0, TAPPED)) == [("qber", True)]
    assert some.batch(2.0, TAPPED) == []
    assert some.batch(3.0, GOOD) == []
    assert some.block(4.0, 0.03) == (True, [])
    assert some.block(5.0, 0.03) == (True, [])
    good, changes = some.block(6.0, 0.03)
    assert good
    assert causes(changes) == [("qber", False)]
    assert some.active == set()


def test_an_error_in_between_starts_the_count_again() -> None:
    some = judge()
    some.batch(1.0, TAPPED)
    some.block(2.0, 0.03)
    some.block(2.0, 0.03)
    some.batch(3.0, TAPPED)
    assert some.block(4.0, 0.03) == (True, [])
    assert some.active == {"qber"}


def test_a_bad_block_is_not_delivered() -> None:
    good, changes = judge().block(1.0, 0.12)
    assert not good
    assert causes(changes) == [("qber", True)]


def test_few_bits_are_gathered_before_they_are_judged() -> None:
    some = judge()
    bad = Batch(20_000, 200, 100, 40)
    assert [causes(some.batch(1.0, bad)) for _ in range(4)] == [[], [], [], [("qber", True)]]


def test_darkness_is_no_light_and_no_eavesdropper() -> None:
    some = judge()
    assert some.batch(1.0, DARK) == []
    assert causes(some.batch(2.0, DARK)) == [("no-light", True)]
    assert some.batch(3.0, DARK) == []
    assert causes(some.batch(4.0, GOOD)) == [("no-light", False)]


def test_silence_is_a_stall_until_anything_is_heard() -> None:
    some = judge()
    assert some.tick(29.9) == []
    assert causes(some.tick(30.0)) == [("stalled", True)]
    assert some.tick(31.0) == []
    assert causes(some.batch(32.0, GOOD)) == [("stalled", False)]
    assert some.deadline_s() == 62.0


def test_an_honest_fibre_raises_no_alarm_in_an_hour() -> None:
    random = Random(5)
    exchange = Exchange(random, random.randbytes, 1, fibre=Fibre(distance_km=60.0))
    some = judge()
    for second in range(3600):
        for event in exchange.play(2_000_000):
            if isinstance(event, Batch):
                assert some.batch(float(second), event) == []
