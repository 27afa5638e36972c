"""How long a message stays invisible after a transient error."""

from __future__ import annotations

from random import Random


def retry_delay(attempt: int, base: float, maximum: float, random: Random) -> int:
    """Seconds until the next delivery: exponential backoff with jitter, never below half the step.

    See "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015). The floor keeps the worker from calling a
    failing service again at once. `attempt` counts from 1.
    """
    step = min(maximum, base * 2.0 ** min(attempt - 1, 30))
    return max(1, round(random.uniform(step / 2, step)))
