"""The short version of `make chaos`: the same parts, the same verdicts, fewer of everything."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.chaos import audio, audio_plan, hostile, hostile_plan, storm, storm_plan
from tests.scenarios.chaos.stage import Stage, open_stage

pytestmark = pytest.mark.slow

SEED = 1


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(lambda _text: None) as opened:
        yield opened


def test_nothing_is_lost_or_doubled_in_a_storm(stage: Stage) -> None:
    report = storm.run(stage, SEED, storm_plan.SHORT, print)
    assert report.problems == []
    assert sum(report.blows.values()) == sum(storm_plan.SHORT.blows.values())
    assert report.faults


def test_hostile_messages_end_dead_and_valid_jobs_complete(stage: Stage) -> None:
    assert hostile.run(stage, SEED, hostile_plan.SHORT, print).problems == []


def test_odd_audio_ends_as_its_table_says(stage: Stage) -> None:
    assert audio.run(stage, audio_plan.rows(short=True), print).problems == []
