"""Wait for another thread or process, and keep showing signs of life meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")
TICK_SECONDS = 0.25

Tick = Callable[[], None]
"""Called several times a second during a wait. An exception it raises ends the wait."""


def no_tick() -> None:
    """For callers that have nothing to do while they wait."""


def settle(future: Future[T], tick: Tick) -> None:
    """Return once the future has a result or an exception, calling `tick` until then."""
    while not wait([future], TICK_SECONDS).done:
        tick()


def wait_for(future: Future[T], tick: Tick) -> T:
    """Return the future's result, or raise its exception, calling `tick` until it is done."""
    settle(future, tick)
    return future.result()
