from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from keys_lab import RULES, Lab


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[Callable[..., Lab]]:
    made: list[Lab] = []

    def make(loss: float = 0.0, rules: str = RULES, keys: str = "") -> Lab:
        lab = Lab(tmp_path, loss, rules, keys)
        made.append(lab)
        lab.start()
        return lab

    yield make
    for lab in made:
        lab.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()
