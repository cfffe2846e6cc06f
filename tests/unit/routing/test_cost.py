"""Derived costs and FRR's configuration."""

from __future__ import annotations

from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.routing import cost, frrconfig
from appliance.routing.cost import DerivedCost, cost_of


@pytest.mark.parametrize(
    ("rate_bps", "stored_bytes", "wanted"),
    [
        (10_000_000, 0, 1),
        (1e12, 1 << 50, 1),
        (10_000, 0, 1000),
        (0, 4_500_000, 1000),  # 36 Mbit over an hour are 10 kbit/s
        (10_000, 4_500_000, 500),
        (0, 0, 65534),
        (100, 0, 65534),
        (-5, -5, 65534),
    ],
)
def test_costs(rate_bps: float, stored_bytes: int, wanted: int) -> None:
    assert cost_of(rate_bps, stored_bytes) == wanted


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(0, 1e12))
def test_more_key_never_costs_more(rate: float, more: float, stored: float) -> None:
    assert 1 <= cost_of(rate + more, stored) <= cost_of(rate, stored) <= cost.DEAREST


def test_a_cost_is_told_when_it_changed_by_half_for_a_while() -> None:
    derived = DerivedCost(1000)
    assert not any(derived.update(now, rate, 0) for now, rate in enumerate([10_000, 12_000, 7_000, 14_000] * 50))
    assert derived.advertised == 1000
    assert [now for now in range(200, 300) if derived.update(now, 5_000, 0)] == [230]
    assert derived.advertised == 2000


def test_a_break_starts_the_while_again() -> None:
    derived = DerivedCost(1000)
    rates = [5_000] * 29 + [10_000] + [5_000] * 40
    assert [now for now, rate in enumerate(rates) if derived.update(now, rate, 0)] == [60]


def test_a_swinging_link_is_told_of_seldom() -> None:
    derived = DerivedCost(1000)
    told = [now for now in range(1200) if derived.update(now, 40_000 if now // 60 % 2 else 2_500, 0)]
    assert len(told) <= 1200 / cost.INTERVAL_S + 1
    assert all(later - sooner >= cost.INTERVAL_S for sooner, later in pairwise(told))


def settings(**more: object) -> frrconfig.Settings:
    link = frrconfig.Interface(
        "a", "qbb0", IPv4Address("1.1.128.1"), IPv4Address("1.1.128.2"), IPv4Address("1.1.0.0"), 7
    )
    values: dict[str, object] = {
        "node": "n", "address": IPv4Address("1.1.1.1"), "area": IPv4Address("1.1.0.0"), "qan": False,
        "hello_interval_s": 10, "dead_interval_s": 40, "interfaces": (link,),
    }  # fmt: skip
    return frrconfig.Settings(**(values | more))  # type: ignore[arg-type]


def test_what_ospfd_is_told() -> None:
    lines = frrconfig.ospfd(settings()).splitlines()
    assert lines.index("interface qbb0") < lines.index(" ip ospf cost 7") < lines.index("interface qbbnode")
    assert {" ip ospf network point-to-point", " ip ospf passive", " ospf router-id 1.1.1.1", " distance 255"} <= set(
        lines
    )
    assert not [line for line in lines if "range" in line or "max-metric" in line]
    assert " max-metric router-lsa administrative" in frrconfig.ospfd(settings(qan=True)).splitlines()
    border = settings(area=IPv4Address("0.0.0.0"))
    assert " area 1.1.0.0 range 1.1.0.0/16" in frrconfig.ospfd(border).splitlines()
    assert [str(area) for area in border.areas] == ["0.0.0.0", "1.1.0.0"]


def test_ends_of_a_link_are_found_alike_at_both() -> None:
    low, high, network = IPv4Address("1.1.1.1"), IPv4Address("1.1.2.1"), frrconfig.IPv4Network("1.1.128.0/30")
    near, far = frrconfig.ends(low, high, network)
    assert (str(near), str(far)) == ("1.1.128.1", "1.1.128.2")
    assert frrconfig.ends(high, low, network) == (far, near)
    assert str(frrconfig.node_interface(IPv4Address("1.1.2.2"))) == "1.1.2.2/30"


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("ospfd version 8.4.4\nCopyright", (8, 4)),
        ("ospfd version 10.2.1-1+deb13", (10, 2)),
        ("", None),
        ("version x.y", None),
    ],
)
def test_versions(told: str, version: tuple[int, int] | None) -> None:
    assert frrconfig.version_of(told) == version
