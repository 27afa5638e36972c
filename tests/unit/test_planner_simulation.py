"""The simulation: what must hold whatever is uploaded, and a day that is known to the second."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.decision import Action, Config
from contracts.capacity import CapacityMode
from ops.errors import OpsError
from planner.figures import Polling
from planner.model import Kind, Run, Setup
from planner.simulation import Simulation
from planner.trace import Schools, Trace, generate

HOUR = 3600.0
KIND = Kind("c7i.large", real_time_factor=0.1, overhead_seconds=2.0, model_load_seconds=5.0)
ONE = Setup(
    config=Config(),
    kinds=(KIND,),
    polling=Polling(wait_seconds=20, empty_polls=3, drain_seconds=90),
    boot_seconds=40.0,
    pending_seconds=10.0,
    stop_seconds=15.0,
)
FLEET = replace(
    ONE,
    config=Config(
        capacity_mode=CapacityMode.FLEET,
        target_wait=timedelta(minutes=10),
        boot=timedelta(seconds=40),
        audio_minutes_per_minute=10.0,
    ),
    maximum=50,
)


def uploads(*lessons: tuple[float, float], days: int = 1) -> Trace:
    """Of (seconds since midnight, seconds of audio)."""
    at, seconds = zip(*sorted(lessons), strict=True)
    return Trace(np.array(at, dtype=float), np.array(seconds, dtype=float), days)


def simulate(trace: Trace, setup: Setup) -> Run:
    return Simulation(trace, setup).run()


traces = st.lists(
    st.tuples(st.floats(0, 6 * HOUR), st.floats(1, 2 * HOUR)), min_size=1, max_size=60
).map(lambda lessons: uploads(*lessons))  # fmt: skip
setups = st.builds(
    replace,
    st.sampled_from([ONE, FLEET]),
    maximum=st.integers(1, 30),
    interruptions_per_hour=st.sampled_from([0.0, 0.0, 2.0, 20.0]),
    boot_spread=st.sampled_from([0.0, 0.5]),
    prefetch=st.booleans(),
    seed=st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(traces, setups)
def test_every_lesson_is_done_exactly_once_and_none_before_its_upload(trace: Trace, setup: Setup) -> None:
    run = simulate(trace, setup)
    assert run.times_done.tolist() == [1] * len(trace)
    assert np.all(run.waits > -1e-6), "but for rounding"
    fastest = KIND.seconds(0) + KIND.real_time_factor * trace.seconds
    assert np.all(run.done - run.started >= fastest - 1e-6)


@settings(max_examples=100, deadline=None)
@given(traces, setups)
def test_nothing_is_left_running_and_all_that_runs_is_paid_for(trace: Trace, setup: Setup) -> None:
    run = simulate(trace, setup)
    assert len(run.spans) == len(run.launches)
    assert run.minute[-1] == (0, 0, 0, 0)
    busy = float((run.done - run.started).sum()) / HOUR
    assert run.machine_hours >= busy - 1e-6
    assert run.peak_machines >= 1
    if setup.config.capacity_mode is CapacityMode.INSTANCE:
        assert run.peak_machines == 1
        ordered = sorted(run.spans, key=lambda span: span.start)
        assert all(a.end <= b.start for a, b in pairwise(ordered))


@settings(max_examples=50, deadline=None)
@given(traces, setups)
def test_the_same_seed_gives_the_same_run(trace: Trace, setup: Setup) -> None:
    first, again = simulate(trace, setup), simulate(trace, setup)
    assert np.array_equal(first.done, again.done)
    assert first.spans == again.spans
    assert first.actions == again.actions


@settings(max_examples=60, deadline=None)
@given(traces, st.integers(1, 10), st.integers(1, 10))
def test_more_machines_at_most_never_make_lessons_wait_longer(trace: Trace, fewer: int, more: int) -> None:
    """Beyond what a poll's luck and a later scaling out may change: a boot, a cool-down, one lesson."""
    p95 = [
        float(np.percentile(simulate(trace, replace(FLEET, maximum=fewer + extra)).waits, 95))
        for extra in (0, more)
    ]
    noise = (
        FLEET.boot_seconds + FLEET.config.scale_out_cooldown.total_seconds() + KIND.seconds(trace.seconds.max())
    )
    assert p95[1] <= p95[0] + noise


def test_a_fleet_within_its_maximum_holds_it() -> None:
    trace = generate(Schools(20, 200), 1)
    run = simulate(trace, replace(FLEET, maximum=3))
    assert run.peak_machines == 3


# One lesson at 08:00:30 and one at 08:10:30; a third comes in the moment the second is being written.
GOLDEN = uploads((8 * HOUR + 30, 600), (8 * HOUR + 630, 1200), (8 * HOUR + 630 + 40 + 60, 300))


def test_a_day_of_one_machine_is_known_to_the_second() -> None:
    run = simulate(GOLDEN, ONE)
    first_poll = 8 * HOUR + 30 + 40  # the upload starts it, 40 s of boot
    second_poll = 8 * HOUR + 630 + 40
    first_done = first_poll + 5 + 2 + 60  # model, overhead, a tenth of its length
    second_done = second_poll + 5 + 2 + 120
    assert run.started.tolist() == [first_poll, second_poll, second_done]
    assert run.done.tolist() == [first_done, second_done, second_done + 2 + 30]
    # A poll of 20 s is under way when a lesson ends (67 s, then 32 s after it began); three empty ones follow.
    leaves = [first_done + (20 - 67 % 20) + 60, second_done + 32 + (20 - 32 % 20) + 60]
    assert [(span.start, span.end) for span in run.spans] == [
        (8 * HOUR + 30 + 10, leaves[0]),
        (8 * HOUR + 630 + 10, leaves[1]),
    ]
    assert run.actions[Action.START] == 2
    assert set(run.actions) == {Action.START, Action.NONE}
    assert run.end >= leaves[1] + 15


def test_a_lesson_that_comes_while_the_machine_stops_waits_for_the_next_tick() -> None:
    first_done = 8 * HOUR + 70 + 67
    leaves = first_done + 13 + 60
    run = simulate(uploads((8 * HOUR + 30, 600), (leaves + 1, 600)), ONE)
    stopped = leaves + 15
    tick = -(-stopped // 60) * 60
    assert run.started[1] == pytest.approx(tick + 40)


def test_a_spot_notice_gives_a_long_lesson_back_at_once_and_another_machine_does_it() -> None:
    setup = replace(FLEET, interruptions_per_hour=12.0, maximum=2)
    run = simulate(uploads((8 * HOUR, 5000)), setup)  # 500 s of work: longer than a notice
    assert run.interruptions >= 1
    assert run.given_back >= 1
    assert run.times_done.tolist() == [1]


def test_a_short_lesson_is_finished_within_the_notice() -> None:
    setup = replace(FLEET, interruptions_per_hour=60.0)
    run = simulate(uploads(*((8 * HOUR + 7 * n, 600) for n in range(40))), setup)  # 62 s of work
    assert run.interruptions >= 1
    assert run.given_back == 0


def test_a_worker_holds_its_next_lesson_while_it_transcribes() -> None:
    lessons = [(8 * HOUR + n, 1200.0) for n in range(10)]
    held = [simulate(uploads(*lessons), replace(ONE, prefetch=each)).peak_in_flight for each in (True, False)]
    assert held == [2, 1]


def test_a_boot_past_the_grace_is_restarted_as_decide_says() -> None:
    """The planner did not choose that: the autoscaler would do it to such a machine."""
    slow = replace(ONE, boot_seconds=400.0)
    with pytest.raises(OpsError, match="1 lessons still wait two weeks"):
        simulate(uploads((8 * HOUR, 600)), slow)


def test_one_machine_cannot_stand_for_many() -> None:
    with pytest.raises(ValueError, match="cannot stand for many"):
        Simulation(GOLDEN, replace(ONE, scale=2))


@pytest.mark.parametrize("scale", [5, 10])
def test_one_lesson_for_many_gives_nearly_what_each_lesson_gives(scale: int) -> None:
    trace = generate(Schools(1500, 12_000), 1)
    setup = replace(FLEET, maximum=150)
    exact, thinned = simulate(trace, setup), simulate(trace, replace(setup, scale=scale))
    assert thinned.lessons == pytest.approx(exact.lessons, rel=0.01)
    assert thinned.machine_hours == pytest.approx(exact.machine_hours, rel=0.1)
    assert thinned.peak_machines == pytest.approx(exact.peak_machines, rel=0.1)
    for percent in (50, 95):
        waits = [float(np.percentile(run.waits, percent)) for run in (thinned, exact)]
        assert waits[0] == pytest.approx(waits[1], rel=0.25, abs=30)
