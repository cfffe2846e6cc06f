"""The formulae against the figures published for the GYS experiment (Ma, Qi, Zhao, Lo 2005)."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from appliance.devices import decoystate as d


def test_the_longest_distance_is_the_published_140_km() -> None:
    assert d.longest_distance_km(d.GYS) == pytest.approx(140.55, abs=0.2)


def test_ever_weaker_decoys_approach_the_published_142_km() -> None:
    assert d.longest_distance_km(replace(d.GYS, decoy_intensity=1e-4)) == pytest.approx(142.05, abs=0.2)


def test_the_optimal_intensity_is_the_published_0_48() -> None:
    assert d.optimal_intensity(d.GYS) == pytest.approx(0.48, abs=0.005)
    rates = {mu: d.key_rate_bps(replace(d.GYS, signal_intensity=mu), 50) for mu in (0.3, 0.48, 0.7)}
    assert max(rates, key=lambda mu: rates[mu]) == 0.48


def test_error_rates_at_the_ends_of_the_range() -> None:
    assert d.expected(d.GYS, 0).signal_error == pytest.approx(d.GYS.misalignment, abs=1e-3)
    assert d.expected(d.GYS, 400).signal_error == pytest.approx(0.5, abs=1e-2)
    assert d.error_rate(d.GYS, 0.0, 0.48) == 0.5


def test_21_db_of_fibre_are_a_hundredfold_and_more() -> None:
    assert d.transmittance(d.GYS, 0) == 0.045
    assert d.transmittance(d.GYS, 100) == pytest.approx(0.045 * 10**-2.1)


def test_rate_falls_with_distance_and_with_an_eavesdropper() -> None:
    rates = [d.key_rate_bps(d.GYS, km) for km in range(0, 141, 10)]
    assert all(nearer > farther > 0 for nearer, farther in pairwise(rates))
    assert 1e3 < d.key_rate_bps(d.GYS, 25) < 1e4  # the paper's figure 6: 1 to 10 kbit/s at 25 km
    tapped = [d.key_rate_bps(d.GYS, 25, fraction) for fraction in (0, 0.05, 0.1, 0.5)]
    assert tapped == sorted(tapped, reverse=True)
    assert tapped[-1] == 0


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_intercept_and_resend_puts_a_quarter_on_top(fraction: float) -> None:
    assert d.tapped_misalignment(0.0, fraction) == fraction / 4
    assert d.tapped_misalignment(0.033, fraction) == pytest.approx(0.033 + fraction / 4, abs=0.033 * fraction)


@pytest.mark.parametrize("km", [0, 25, 80, 130])
def test_the_bounds_hold_for_the_true_single_photon_values(km: float) -> None:
    seen = d.expected(d.GYS, km)
    eta = d.transmittance(d.GYS, km)
    true_yield = d.GYS.dark_probability + eta - d.GYS.dark_probability * eta
    true_error = (0.5 * d.GYS.dark_probability + d.GYS.misalignment * eta) / true_yield
    bound = d.single_photon_yield(d.GYS, seen)
    assert 0.9 * true_yield < bound <= true_yield
    assert true_error <= d.single_photon_error(d.GYS, seen, bound) < 1.3 * true_error


def test_entropy() -> None:
    assert d.entropy(0.5) == 1
    assert d.entropy(0) == d.entropy(1) == 0
    assert d.entropy(0.11) == pytest.approx(0.4999, abs=1e-3)
    assert math.isclose(d.entropy(0.2), d.entropy(0.8))
