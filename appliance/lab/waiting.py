"""Waiting for something to become true, with a limit that is no measure of speed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.02
LIMIT_S = 90.0  # several times of what takes longest, on a machine that does other things too
Found = TypeVar("Found")


class WaitedInVain(AssertionError):
    """Something did not happen in time."""


def until(found: Callable[[], Found], what: str | Callable[[], str], limit_s: float = LIMIT_S) -> Found:
    """What `found` returns as soon as that is true. Raises WaitedInVain with `what`."""
    end = time.monotonic() + limit_s
    while not (value := found()):
        if time.monotonic() > end:
            told = what if isinstance(what, str) else what()
            raise WaitedInVain(f"waited {limit_s:.0f} s in vain: {told}")
        time.sleep(POLL_S)
    return value
