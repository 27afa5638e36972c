"""Wait for another thread or process without going silent."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
TICK_SECONDS = 0.25

Tick = Callable[[], None]
"""Called several times a second while something is waited for; an exception out of it ends the wait."""


def settle(future: Future[T], tick: Tick) -> None:
    """Return when the future has an outcome, whichever, calling `tick` until then."""
    while not wait([future], TICK_SECONDS).done:
        tick()


def wait_for(future: Future[T], tick: Tick) -> T:
    """The future's result, or its exception, calling `tick` until it is there."""
    settle(future, tick)
    return future.result()
