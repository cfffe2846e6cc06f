"""Is the machine as it should be? (All of it for real: tests/image.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.services import health
from appliance.site import state


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "VERSIONS", tmp_path)
    return tmp_path


def test_versions_and_their_tries(versions: Path) -> None:
    for name in ("qbb_0.1.0.efi", "qbb_0.2.0+2-1.efi", "qbb_0.3.0+3.efi", "qbb_0.4.0+0-3.efi", "other.efi"):
        (versions / name).touch()
    assert state.versions() == {"0.1.0": None, "0.2.0": 2, "0.3.0": 3, "0.4.0": 0}
    assert sorted(state.others("0.1.0")) == ["0.2.0", "0.3.0"]
    assert [trouble.what.split()[1] for trouble in state.given_up("0.1.0")] == ["0.4.0"]
    assert state.given_up("0.4.0") == [], "it is in use, for want of another"


def test_a_machine_without_versions_has_no_others(versions: Path) -> None:
    versions.rmdir()
    assert state.others("0.1.0") == [] and state.given_up("0.1.0") == []


@pytest.mark.parametrize(("variable", "secure"), [(b"\x06\0\0\0\1", True), (b"\x06\0\0\0\0", False), (None, False)])
def test_secure_boot_is_what_the_firmware_says(
    variable: bytes | None, secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "SECURE_BOOT", tmp_path / "SecureBoot")
    monkeypatch.setattr(state, "STATE", tmp_path)
    if variable is not None:
        (tmp_path / "SecureBoot").write_bytes(variable)
    assert state.is_secure() == secure
    shut = state.shut()
    assert shut is not None and ("Secure Boot is off" in shut.what) != secure


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "INTERVAL_S", 0.0)


def test_a_version_that_is_not_in_order_goes_only_where_there_is_another(
    versions: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["the keys service does not answer"] * 20)
    monkeypatch.setattr(health, "trouble", lambda path, once_healthy: next(answers, ""))
    assert health.settle(Path("node.toml"), end_s=0.0), "it waits until somebody has mended it"
    assert next(answers, None) is None
    (versions / "qbb_0.0.9.efi").touch()
    monkeypatch.setattr(health, "trouble", lambda path, once_healthy: "the keys service does not answer")
    assert not health.settle(Path("node.toml"), end_s=0.0)


def test_a_version_that_cannot_open_var_is_not_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "STATE", tmp_path)
    assert "not open" in health.trouble(tmp_path / "node.toml", once_healthy=False)


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ('{"0": {"type": "systemd-tpm2", "tpm2-pcrs": [7, 12]}, "1": {"type": "systemd-recovery"}}', False),
        ('{"0": {"type": "systemd-tpm2", "tpm2-pcrs": [7]}}', True),
        ("{}", False),
        ("no JSON", False),
    ],
)
def test_a_var_that_is_bound_to_less_is_told(
    tokens: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump = tmp_path / "cryptsetup"
    dump.write_text(f"#!/bin/sh\necho '{{\"tokens\": {tokens}}}'\n")
    dump.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = state.bound_loosely()
    assert (found is not None) == told
    assert found is None or "--tpm2-pcrs=7+12 " in found.remedy
