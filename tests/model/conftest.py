"""The model's option, and its folder on the path: its modules import one another by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Only known when pytest is started on this folder; the environment variable works from anywhere."""
    parser.addoption("--model-large", action="store_true", help="explore the link log's model in larger bounds too")


@pytest.fixture
def model_large(request: pytest.FixtureRequest) -> bool:
    """Whether the larger bounds are asked for."""
    asked = request.config.getoption("--model-large", default=False)
    return bool(asked) or os.environ.get("QBB_MODEL") == "large"
