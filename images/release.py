"""Which version an image is."""

from __future__ import annotations

import os
import subprocess
import tomllib
from dataclasses import dataclass

from images.tree import ROOT

NAME = "qbb"
PROJECT = ROOT / "pyproject.toml"


@dataclass(frozen=True)
class Release:
    version: str
    epoch_s: int  # the time that every file in the image has
    name: str = NAME

    @property
    def stem(self) -> str:
        return f"{self.name}_{self.version}"


def release(version: str | None = None) -> Release:
    """`version`, else QBB_IMAGE_VERSION, else the project's. Its time: SOURCE_DATE_EPOCH, else the last commit's."""
    wanted = version or os.environ.get("QBB_IMAGE_VERSION") or tomllib.loads(PROJECT.read_text())["project"]["version"]
    return Release(wanted, int(os.environ.get("SOURCE_DATE_EPOCH") or _last_commit_s()))


def _last_commit_s() -> int:
    command = ["git", "log", "-1", "--format=%ct"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return int(told or PROJECT.stat().st_mtime)
