"""For all tests: hypothesis measures no times, which on a busy machine say nothing of the code; and a command that runs
within the tests' own process does not harden that, or tests that want core dumps would get none later."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from appliance.native import keymem

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def not_hardened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keymem, "harden_process", lambda: None)
