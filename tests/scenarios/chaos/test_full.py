"""`make chaos`: the three parts in full, each with its table. PART=… selects by the tests' names."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from ops.settings import REPOSITORY
from tests.scenarios.chaos import audio, audio_plan, hostile, hostile_plan, storm, storm_plan
from tests.scenarios.chaos.stage import Stage, open_stage
from tests.scenarios.conftest import Show

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]
_MOST_SHOWN = 40
_KEPT = REPOSITORY / ".local" / "chaos"


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with open_stage(print) as opened:
        yield opened


def test_storm(stage: Stage, seed: int, show: Show) -> None:
    conclude("storm", storm.run(stage, seed, storm_plan.FULL, print), stage, seed, show)


def test_hostile(stage: Stage, seed: int, show: Show) -> None:
    conclude("hostile", hostile.run(stage, seed, hostile_plan.FULL, print), stage, seed, show)


def test_audio(stage: Stage, seed: int, show: Show) -> None:
    conclude("audio", audio.run(stage, audio_plan.rows(short=False), print), stage, seed, show)


def conclude(
    part: str, report: storm.Report | hostile.Report | audio.Report, stage: Stage, seed: int, show: Show
) -> None:
    """Show the table and the problems; fail when there are any, and keep what the workers logged."""
    show(report.table())
    for problem in report.problems[:_MOST_SHOWN]:
        show(f"! {part}: {problem}")
    if more := len(report.problems[_MOST_SHOWN:]):
        show(f"! {part}: and {more} more")
    show(f"chaos: {part}, seed {seed}, {report.seconds:.0f} s, {len(report.problems)} problems")
    if report.problems:
        shutil.rmtree(_KEPT, ignore_errors=True)
        shutil.copytree(stage.root, _KEPT, ignore=shutil.ignore_patterns("cloud", "lesson-*"))
        show(f"chaos: the workers' logs are kept in {_KEPT.relative_to(REPOSITORY)}")
        pytest.fail(f"{len(report.problems)} problems", pytrace=False)
