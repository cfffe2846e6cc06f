"""From the routing unit's entries to the rows of C, and what the C core then chooses."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.forwarding.policy import LinkPolicy
from appliance.forwarding.table import Destination, Hop, carrying, merge, rows
from appliance.native import ffi
from appliance.native.forward import LOCAL, Decision, Fate, Forwarding, NetworkDrop, OverloadPolicy, Way
from appliance.network import packet as network

SELF, SOURCE = IPv4Address("1.1.1.1"), IPv4Address("1.1.1.9")


def number(address: str) -> int:
    return int(IPv4Address(address))


def qkdnl(destination: str, source: IPv4Address = SOURCE) -> Any:
    return ffi.from_buffer(network.pack(int(source), number(destination), network.PROTOCOL_QKDTL, bytes(20)))


def forwarding(table: list[Destination], links: int = 4) -> Forwarding:
    core = Forwarding(int(SELF))
    core.set_table(rows(table), links)
    core.state.up = core.state.room = core.state.calm = 2**links - 1
    return core


def test_the_first_source_of_a_prefix_wins_and_empty_entries_say_nothing() -> None:
    learned = [Destination(number("1.1.1.2"), 32, (Hop(1, 6, True), Hop(0, 10, True))), Destination(0, 0, ())]
    configured = [Destination(number("1.1.1.2"), 32, (Hop(3, 0, True),)), Destination(number("1.2.0.0"), 16, None)]
    assert merge(configured, learned) == configured
    assert merge(learned, configured) == [learned[0], configured[1]]


def test_best_is_the_first_and_what_costs_the_same_by_a_nearer_neighbour() -> None:
    ways = rows([Destination(0, 0, (Hop(2, 5, True), Hop(0, 5, True), Hop(1, 5, False), Hop(3, 6, True)))])
    assert [(way.link, way.best, way.loop_free) for way in ways] == [
        (2, True, True),
        (0, True, True),
        (1, False, False),
        (3, False, True),
    ]
    assert rows([Destination(number("1.1.1.1"), 32, None)]) == [Way(number("1.1.1.1"), 32, LOCAL, 0)]


def test_the_papers_example_node_spreads_by_load() -> None:
    """QBB1 of Table I: QBB4 via QBB3 (link 1) at 9, via QBB2 (link 0) at 10."""
    core = forwarding([Destination(number("1.1.1.4"), 32, (Hop(1, 9, True), Hop(0, 10, True)))])
    packet = qkdnl("1.1.1.4")
    assert core.decide(2, packet, len(packet)).link == 1
    core.state.calm = 0b1101
    assert core.decide(2, packet, len(packet)).link == 0
    core.state.calm = 0b1100
    assert core.decide(2, packet, len(packet)) == Decision(Fate.DROP, 0, NetworkDrop.OVERLOAD)
    core.state.overload = OverloadPolicy.DEFAULT_LINK
    assert core.decide(2, packet, len(packet)).link == 1
    assert core.decide(1, packet, len(packet)).link == 0


ADDRESS = st.integers(0, 2**32 - 1) | st.integers(number("1.1.0.0"), number("1.1.0.255"))


@st.composite
def destinations(draw: st.DrawFn) -> Destination:
    bits = draw(st.integers(0, 32))
    prefix = draw(ADDRESS) >> (32 - bits) << (32 - bits)
    hop = st.builds(Hop, st.integers(0, 3), st.integers(0, 99), st.booleans())
    return Destination(prefix, bits, draw(st.none() | st.lists(hop, min_size=1, max_size=4).map(tuple)))


@given(table=st.lists(destinations(), max_size=30), wanted=ADDRESS)
def test_the_core_finds_the_longest_prefix(table: list[Destination], wanted: int) -> None:
    merged = merge(table)
    core = forwarding(merged)
    inside = [d for d in merged if wanted >> (32 - d.bits) << (32 - d.bits) == d.prefix]
    packet = qkdnl(str(IPv4Address(wanted)))
    found = core.decide(LOCAL, packet, len(packet))
    assert found.reason is NetworkDrop.SOURCE  # not ours
    found = core.decide(7, packet, len(packet))
    longest = max(inside, key=lambda d: d.bits, default=None)
    if wanted == int(SELF):
        assert found.fate is Fate.LOCAL
    elif longest is None:
        assert found == Decision(Fate.DROP, 0, NetworkDrop.NO_ROUTE)
    elif longest.hops is None:
        assert found.fate is Fate.LOCAL if longest.bits == 32 else found.reason is NetworkDrop.NO_HOST
    else:
        assert (found.fate, found.link) == (Fate.SEND, longest.hops[0].link)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 9), st.booleans()), min_size=1, max_size=4, unique_by=lambda h: h[0]
    ),
    st.sets(st.integers(0, 3)),
)
def test_the_keys_service_hears_of_the_link_that_the_core_takes(
    found: list[tuple[int, int, bool]], up: set[int]
) -> None:
    """Also of an alternative, when the preferred link is down: that is no reason to refuse a key."""
    hops = tuple(Hop(*hop) for hop in sorted(found, key=lambda hop: hop[1]))
    core = forwarding([Destination(number("1.1.1.4"), 32, hops)])
    core.state.up = sum(1 << link for link in up)
    packet = qkdnl("1.1.1.4", SELF)
    decided = core.decide(LOCAL, packet, len(packet))
    if decided.fate is Fate.SEND:
        assert carrying(hops, up) == decided.link
    else:
        assert carrying(hops, up) == hops[0].link


def test_a_table_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order"):
        Forwarding(int(SELF)).set_table([Way(1 << 24, 8, 0, 1), Way(0, 0, 0, 1)], 4)


@pytest.mark.parametrize(
    ("rate_bps", "available_bytes", "words_s"),
    [(12_800.0, 0, 100.0), (0.0, 1000, 0.0), (0.0, 1000 + 1600, 20.0), (1280.0, 2600, 30.0)],
)
def test_supply_is_half_the_rate_and_the_spare_store_spread(
    rate_bps: float, available_bytes: int, words_s: float
) -> None:
    policy = LinkPolicy(20, 0.9, 12, low_mark_bytes=1000, store_s=10)
    assert policy.supply_words_s(rate_bps, available_bytes) == pytest.approx(words_s)
