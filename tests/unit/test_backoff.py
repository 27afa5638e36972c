"""Delays after transient errors."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from whisper_processor.worker.backoff import retry_delay


@given(st.integers(1, 1000), st.floats(1, 60), st.floats(60, 3600), st.integers())
def test_a_delay_stays_within_its_step_and_the_maximum(attempt: int, base: float, top: float, seed: int) -> None:
    step = min(top, base * 2.0 ** min(attempt - 1, 30))
    assert max(1, round(step / 2)) <= retry_delay(attempt, base, top, Random(seed)) <= round(step)


def test_delays_grow_and_differ_between_workers() -> None:
    means = [sum(retry_delay(a, 10, 600, Random(s)) for s in range(50)) / 50 for a in (1, 2, 3)]
    assert means == sorted(means)
    assert len({retry_delay(5, 10, 600, Random(s)) for s in range(50)}) > 10
