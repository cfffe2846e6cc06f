"""The image, built once; machines, gone after each test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import build
from images.keys import Keys, keys
from images.vm import Machine

WANTED = os.environ.get("QBB_IMAGE", "0")
HERE = Path(__file__).parent
Tell = Callable[[str], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        if WANTED == "0" or os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="virtual machines: set QBB_IMAGE=1 or all, as root"))
        elif WANTED != "all" and item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="long: set QBB_IMAGE=all"))


@pytest.fixture(scope="session")
def tell() -> Tell:
    began = time.monotonic()

    def line(text: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {text}", file=sys.__stderr__, flush=True)

    return line


@pytest.fixture(scope="session")
def signing() -> Keys:
    return keys()


@pytest.fixture(scope="session")
def image(tell: Tell) -> Path:
    return build.image(build.OUT, None, None, tell)


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    """Those in it are switched off at the end."""
    made: list[Machine] = []
    yield made
    for machine in made:
        machine.kill()
