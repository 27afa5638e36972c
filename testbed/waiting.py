"""Waiting for what another process does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ops.waiting import TooLong, wait_for

PATIENCE = 90.0
"""Seconds; long enough for a loaded machine with two cores."""
T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    """Poll until `condition` returns something true, and return that. Raises AssertionError when too late."""
    try:
        return wait_for(lambda: condition() or None, seconds, poll=0.1)
    except TooLong as error:
        raise AssertionError(f"{error}: {what}") from None
