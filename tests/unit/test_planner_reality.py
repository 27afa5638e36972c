"""When the simulation and a real run are said to agree."""

from __future__ import annotations

import pytest

from tests.scenarios.reality.comparison import Comparison, Measured, Seen, Service, compare

MEASURED = Measured(
    services=[Service(20, 5.0, 2.0), Service(80, 9.0, 0.0), Service(50, 6.0, 0.0)],
    boot=4.0,
    stop=1.0,
    poll_wait=2.0,
    empty_polls=3,
)


def comparison(waits: list[float], simulated: list[float], starts: int = 1) -> Comparison:
    seen = [Seen(float(number), 30.0, wait) for number, wait in enumerate(waits)]
    return Comparison(seen, simulated, starts, 1)


def test_the_line_through_the_lessons_is_their_real_time_factor_and_overhead() -> None:
    kind = MEASURED.kind
    assert kind.real_time_factor == pytest.approx(0.1)
    assert kind.overhead_seconds == pytest.approx(1.0)
    assert kind.model_load_seconds == 2.0


@pytest.mark.parametrize("second", [3.0, 40.0])
def test_noise_never_makes_a_negative_figure(second: float) -> None:
    kind = Measured([Service(20, 5.0, 0.0), Service(80, second, 0.0)], 4.0, 1.0, 2.0, 3).kind
    assert kind.real_time_factor > 0
    assert kind.overhead_seconds == 0


def test_waits_that_follow_the_simulation_agree() -> None:
    agreed = comparison([5, 20, 41, 60, 80], [4, 25, 35, 61, 70])
    assert not list(agreed.problems())


@pytest.mark.parametrize(
    ("compared", "problem"),
    [
        (comparison([100, 150, 200, 250, 300], [10, 15, 20, 25, 30]), "on average"),
        (comparison([1, 2, 3, 4, 5], [60, 70, 80, 90, 95]), "on average"),
        (comparison([50, 40, 30, 20, 10], [10, 20, 30, 40, 50]), "other lessons waited long"),
        (comparison([5, 20, 41], [5, 20, 41], starts=2), "2 starts"),
    ],
)
def test_waits_that_do_not_are_a_problem(compared: Comparison, problem: str) -> None:
    assert any(problem in each for each in compared.problems())


def test_a_second_burst_after_the_stop_is_a_second_start() -> None:
    seen = [Seen(0, 30, 4), Seen(1, 30, 9), Seen(60, 30, 4)]
    compared = compare(seen, 2, MEASURED)
    assert compared.starts_simulated == 2
    assert not list(compared.problems())
