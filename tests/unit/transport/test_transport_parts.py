"""The small parts: sequence numbers, round-trip times, congestion, admission, timers, the table of states."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.network.errors import LocalProtocolError
from appliance.transport import congestion, rtt
from appliance.transport.admission import Admission, Qos, TokenBucket
from appliance.transport.congestion import Congestion
from appliance.transport.rtt import RoundTrip
from appliance.transport.states import OVER, TRANSITIONS, Cause, State
from appliance.transport.timers import Timers
from appliance.transport.window import Arrival, Received, unwrap


@given(st.integers(-(2**31), 2**40), st.integers(-(2**31), 2**31 - 1))
def test_unwrap_finds_the_nearest(near: int, away: int) -> None:
    assert unwrap((near + away) % 2**32, near) == near + away


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), max_size=60))
def test_received_is_a_set(spans: list[tuple[int, int]]) -> None:
    received, model = Received(0), set[int]()
    for start, count in spans:
        new = set(range(start, start + count))
        arrival = received.add(start, start + count)
        if new <= model:
            assert arrival is Arrival.DUPLICATE
        elif new & model:
            assert arrival is Arrival.OVERLAP
        else:
            assert arrival in (Arrival.NEXT, Arrival.EDGE, Arrival.BEYOND)
            model |= new
        assert model == set(range(received.next)) | {n for a, b in received.spans for n in range(a, b)}
        edges = [received.next, *(edge for span in received.spans for edge in span)]
        assert all(low < high for low, high in pairwise(edges))


def test_arrivals_worth_telling_at_once() -> None:
    received = Received(0)
    assert received.add(0, 2) is Arrival.NEXT
    assert received.add(4, 5) is Arrival.EDGE  # a gap opens
    assert received.add(5, 9) is Arrival.BEYOND  # nothing new about the gap
    assert received.add(3, 4) is Arrival.EDGE  # it shrinks
    assert received.add(2, 3) is Arrival.EDGE  # it closes
    assert received.add(9, 10) is Arrival.NEXT


def test_rfc_6298_by_its_formulas() -> None:
    trip = RoundTrip()
    assert trip.timeout_s == 1.0
    trip.sample(2.0)
    assert (trip.smoothed_s, trip.variation_s, trip.timeout_s) == (2.0, 1.0, 6.0)
    trip.sample(1.0)
    assert (trip.smoothed_s, trip.variation_s) == (1.875, 1.0)
    assert trip.timeout_s == 5.875
    trip.back_off()
    assert trip.timeout_s == rtt.HIGHEST_S
    for _ in range(99):
        trip.back_off()
    assert trip.timeout_s == rtt.HIGHEST_S
    trip.sample(1.0)
    assert trip.timeout_s < 6
    for _ in range(99):
        trip.sample(0.001)
    assert trip.timeout_s == rtt.LOWEST_S


def test_window_doubles_then_grows_by_one_segment_a_round_trip() -> None:
    control = Congestion()
    for order in range(8):
        control.acknowledged(1024, order, True)
    assert control.window_bytes == congestion.INITIAL_BYTES + 8 * 1024
    control.congested(9, 12)
    reduced = control.window_bytes
    assert reduced == 12 * 1024 * congestion.DECREASE
    control.congested(11, 14)  # sent before the reduction: the same congestion
    control.acknowledged(1024, 11, True)
    assert control.window_bytes == reduced
    for order in range(12, 20):
        control.acknowledged(1024, order, True)
    assert reduced + 900 < control.window_bytes < reduced + 1024
    control.acknowledged(1024, 20, False)  # a window that was not used proves nothing
    assert control.window_bytes < reduced + 1024


def test_window_keeps_within_bounds() -> None:
    control = Congestion()
    for order in range(10_000):
        control.acknowledged(1024, order, True)
    assert control.window_bytes == congestion.HIGHEST_BYTES
    for order in range(10_000, 10_100):
        control.congested(order, order + 1)
    assert control.window_bytes == congestion.LOWEST_BYTES
    control.timed_out(10_101)
    control.timed_out(10_102)
    assert control.window_bytes == congestion.UNIT_BYTES
    assert control.free


@given(
    st.integers(1, 10**6),
    st.integers(1, 10**6),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 10**5)), max_size=50),
)
def test_token_bucket_bounds_any_span(rate: int, burst: int, asks: list[tuple[float, int]]) -> None:
    bucket, now, taken = TokenBucket(rate, burst, 0.0), 0.0, 0
    for pause, bits in asks:
        now += pause
        if bucket.take(now, min(bits, burst)):
            taken += min(bits, burst)
        else:
            ready = bucket.ready_at(now, min(bits, burst))
            assert ready > now
            assert bucket.take(ready, min(bits, burst))
            taken, now = taken + min(bits, burst), ready
        assert taken <= burst + rate * now + 1 + 1e-6 * now * rate


def test_token_bucket_lets_one_above_its_burst_go_and_waits_it_out() -> None:
    bucket = TokenBucket(100, 50, 0.0)
    assert bucket.take(0.0, 250)
    assert bucket.ready_at(0.0, 250) == pytest.approx(2.5)
    with pytest.raises(LocalProtocolError):
        TokenBucket(0, 50, 0.0)


def test_qos_says_what_is_wrong() -> None:
    for wrong in ({"rate_bps": -1}, {"burst_bits": 2**32}, {"guaranteed_bps": -5}, {"priority": 8}):
        with pytest.raises(LocalProtocolError, match=next(iter(wrong))):
            Qos(**wrong)


def test_admission_gives_back_what_is_released() -> None:
    node = IPv4Address("1.1.0.1")
    admission = Admission({node: 100.0}.get)
    for _ in range(50):
        admission.admit(node, Qos(rate_bps=60))
        admission.admit(node, Qos(guaranteed_bps=40))
        admission.release(node, Qos(rate_bps=60))
        admission.release(node, Qos(guaranteed_bps=40))
    assert admission.committed_bps(node) == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100), st.floats(0, 2)), max_size=80))
def test_timers_never_miss_and_do_not_pile_up(steps: list[tuple[int, float, float]]) -> None:
    timers, wanted, now = Timers[int](), dict[int, float](), 0.0
    for owner, ahead, pause in steps:
        wanted[owner] = now + ahead
        timers.set(owner, now + ahead)
        assert timers.next() is not None
        assert timers.next() <= min(wanted.values())
        now += pause
        due = set(timers.due(now))
        assert {known for known, at in wanted.items() if at <= now} <= due
        for known in due & set(wanted):  # others were told by an entry that was moved to earlier
            if wanted[known] <= now:
                del wanted[known]
            else:
                timers.set(known, wanted[known])
        assert all(at > now for at in wanted.values())
    for owner in range(6):
        timers.forget(owner)
    assert timers.next() is None


def test_timers_keep_few_entries_for_one_owner() -> None:
    """As a connection does: an acknowledgement soon, then only a time-out that keeps moving away."""
    timers = Timers[str]()
    for step in range(10_000):
        timers.set("connection", step + 500.0)
        timers.set("connection", step + 0.5)
        assert timers.due(step + 1.0) == ["connection"]
        assert len(timers._heap) <= 3


def test_the_table_leads_from_everywhere_to_the_end() -> None:
    reached = {State.CLOSED}
    for _ in State:
        reached |= {after for (before, cause), after in TRANSITIONS.items() if before in reached}
    assert reached == set(State)
    assert all(TRANSITIONS[state, Cause.END] is State.CLOSED for state in State)
    for (state, cause), after in TRANSITIONS.items():
        if state in OVER and cause is not Cause.END:
            assert state is State.CLOSED, f"nothing but the end follows {state}, not {after}"
