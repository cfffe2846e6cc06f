"""The health tests' cutoffs (csrc/core/health.c), computed again from SP 800-90B 4.4."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, comb

import pytest

from appliance.native import ffi, lib

ALPHA = Fraction(1, 2**30)


@pytest.mark.parametrize("entropy_bits", range(1, 9))
def test_cutoffs(entropy_bits: int) -> None:
    health = ffi.new("qbb_health *")
    assert lib.qbb_health_init(health, entropy_bits) == 0
    assert health.run_cutoff == 1 + ceil(Fraction(30, entropy_bits))
    likely, below, cutoff = Fraction(1, 2**entropy_bits), Fraction(0), -1
    window = lib.QBB_HEALTH_WINDOW
    while below < 1 - ALPHA:
        cutoff += 1
        below += comb(window, cutoff) * likely**cutoff * (1 - likely) ** (window - cutoff)
    assert health.window_cutoff == 1 + cutoff
