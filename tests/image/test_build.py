"""The image as files: what was built of the same inputs is the same, and it says what is in it."""

from __future__ import annotations

import json
from pathlib import Path

from images import build
from images.release import release

from .conftest import Tell

MOST_PACKAGES = 220


def test_the_same_inputs_give_the_same_root_hash(tmp_path: Path, image: Path, tell: Tell) -> None:
    """Composed a second time elsewhere, of the same Debian trees; `make image-check` makes those anew as well."""
    name = f"{release().stem}.roothash"
    first = (image.parent / name).read_text()
    build.image(tmp_path, None, None, tell)
    assert (tmp_path / name).read_text() == first


def test_it_lists_what_is_in_it(image: Path) -> None:
    listed = json.loads(image.with_suffix(".cdx.json").read_text())
    names = {component["name"] for component in listed["components"]}
    assert listed["bomFormat"] == "CycloneDX"
    assert {"qbb", "frr", "systemd", "linux-image-amd64"} <= names
    assert len(names) <= MOST_PACKAGES
    licences = image.with_suffix(".licences").read_text()
    for name in ("frr", "systemd", "python3.13"):
        assert name in licences
