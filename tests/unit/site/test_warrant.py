"""Who may replace what a machine keeps. (Recovery keys, with a real volume: tests/image.)"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.site import warrant

TEXT = """[node]
name = "paris"
address = "1.1.1.1"

[[link]]
name = "vienna"
peer = "1.1.1.2"
listen = "192.0.2.1:7301"
remote = "192.0.2.2:7301"

[site]
ssh_keys = ["{}"]
"""


class Signer:
    def __init__(self, folder: Path, name: str) -> None:
        self._key = folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", self._key], check=True)

    @property
    def public(self) -> str:
        return self._key.with_suffix(".pub").read_text().strip()

    def sign(self, path: Path, namespace: str = "") -> Path:
        """`path`, signed as the console says it."""
        command = warrant.how_to_sign(path.name).replace("KEY", str(self._key)).split()
        command[command.index("-n") + 1] = namespace or path.name
        subprocess.run(command, cwd=path.parent, check=True, capture_output=True)
        return path


@pytest.fixture
def offered(tmp_path: Path) -> Path:
    path = tmp_path / "node.toml"
    path.write_text("what is offered")
    return path


def test_an_administrators_signature_counts(tmp_path: Path, offered: Path) -> None:
    anna, bert = Signer(tmp_path, "anna"), Signer(tmp_path, "bert")
    keys = (bert.public, anna.public)
    assert not warrant.is_signed(offered, keys)
    assert warrant.is_signed(anna.sign(offered), keys)
    assert not warrant.is_signed(offered, ()), "a machine without administrators"
    offered.write_text("what is offered!")
    assert not warrant.is_signed(offered, keys), "changed after it was signed"


def test_others_do_not_nor_what_was_signed_for_something_else(tmp_path: Path, offered: Path) -> None:
    anna, mallory = Signer(tmp_path, "anna"), Signer(tmp_path, "mallory")
    assert not warrant.is_signed(mallory.sign(offered), (anna.public,))
    offered.with_name("node.toml.sig").unlink()
    assert not warrant.is_signed(anna.sign(offered, "git"), (anna.public,))
    other = tmp_path / "qbb.link.vienna"
    other.write_text("a secret")
    shutil.copy(anna.sign(other).with_name("qbb.link.vienna.sig"), offered.with_name("node.toml.sig"))
    assert not warrant.is_signed(offered, (anna.public,))


def test_administrators_are_those_of_the_file_that_is_kept(tmp_path: Path) -> None:
    anna = Signer(tmp_path, "anna")
    kept = tmp_path / "kept.toml"
    assert warrant.administrators(kept) == ()
    kept.write_text(TEXT.format(anna.public))
    assert warrant.administrators(kept) == (anna.public,)
    kept.write_text("no longer TOML")
    assert warrant.administrators(kept) == ()
