"""Wait for what happens elsewhere: poll, give up after a time, and say now and then how long it has taken.

botocore's waiters serve where nothing is said meanwhile: stacks and versions of the function. Here the operator
hears of each state, and gets a message of ours when the time is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar, cast

from tenacity import RetryError, Retrying, retry_if_result, wait_fixed

Say = Callable[[str], None]
Tell = Callable[[float], None]
"""Is told the seconds waited so far, after each poll without success."""

_T = TypeVar("_T")


class TooLong(Exception):
    """The time is over; `seconds` have been waited."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not within {seconds:.0f} s")
        self.seconds = seconds


def wait_for(
    look: Callable[[], _T | None],
    timeout: float,
    tell: Tell = lambda _seconds: None,
    *,
    poll: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> _T:
    """The first thing that `look` finds; None from it means not yet. Looks once at least.

    Raises TooLong after `timeout` seconds, and whatever `look` or `tell` raise.
    """
    started = clock()
    retrying = Retrying(
        retry=retry_if_result(lambda found: found is None),
        stop=lambda _state: clock() - started > timeout,
        wait=wait_fixed(poll),
        before_sleep=lambda _state: tell(clock() - started),
        sleep=sleep,
    )
    try:
        return cast(_T, retrying(look))
    except RetryError:
        raise TooLong(clock() - started) from None


def wait_until(
    true: Callable[[], bool],
    timeout: float,
    tell: Tell = lambda _seconds: None,
    *,
    poll: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until `true` says so. Raises TooLong after `timeout` seconds."""
    wait_for(lambda: true() or None, timeout, tell, poll=poll, clock=clock, sleep=sleep)


def every(seconds: float, act: Tell) -> Tell:
    """Pass the time waited on, but only once in so many seconds."""
    last = 0.0

    def tell(waited: float) -> None:
        nonlocal last
        if waited - last >= seconds:
            last = waited
            act(waited)

    return tell


def say_every(seconds: float, say: Say, what: str) -> Tell:
    """Say, once in so many seconds, how long `what` has taken."""
    return every(seconds, lambda waited: say(f"{what} for {waited:.0f} s"))


def say_changes(say: Say, repeat_after: float = float("inf"), clock: Callable[[], float] = time.monotonic) -> Say:
    """Say a text when it differs from the last one, or when that was said long ago."""
    last, said_at = "", clock()

    def tell(text: str) -> None:
        nonlocal last, said_at
        if text != last or clock() - said_at > repeat_after:
            last, said_at = text, clock()
            say(text)

    return tell
