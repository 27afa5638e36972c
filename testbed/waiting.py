"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 90.0
"""Seconds; long enough for a loaded machine with two cores."""
T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Poll until `condition` returns something true, and return that. Raises AssertionError when too late."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")
