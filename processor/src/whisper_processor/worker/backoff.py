"""How long a message stays invisible after a transient error."""

from __future__ import annotations

from random import Random


def retry_delay(attempt: int, base: float, maximum: float, random: Random) -> int:
    """Seconds until the next delivery: exponential with full jitter, never below half the step.

    Full jitter after "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015); the floor keeps a
    failing service from being asked again at once. `attempt` counts from 1.
    """
    step = min(maximum, base * 2.0 ** min(attempt - 1, 30))
    return max(1, round(random.uniform(step / 2, step)))
