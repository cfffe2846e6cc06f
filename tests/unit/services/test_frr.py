"""Which FRR the unit takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.services import frr


def installed(folder: Path, says: str) -> Path:
    for program in ("zebra", "ospfd"):
        path = folder / program
        path.write_text(f"#!/bin/sh\necho '{says}'\n")
        path.chmod(0o755)
    return folder


@pytest.mark.parametrize("version", ["8.4.4", "8.5", "9.1", "10.3", "10.5.1-1+deb13u1"])
def test_versions_that_are_taken(tmp_path: Path, version: str) -> None:
    found = frr.check(installed(tmp_path, f"ospfd version {version}"))
    assert list(found) == [int(part) for part in version.split(".")[:2]]


@pytest.mark.parametrize("version", ["7.5.1", "8.3", "11.0", "0.99"])
def test_versions_that_are_not(tmp_path: Path, version: str) -> None:
    with pytest.raises(frr.Missing, match=r"FRR from 8\.4 and below 11\.0 is wanted"):
        frr.check(installed(tmp_path, f"ospfd version {version}"))
