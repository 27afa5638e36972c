"""`make chaos`: run the three parts, or one, print their tables; exit code 1 when anything is not as planned."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from enum import StrEnum
from typing import Annotated

import typer

from ops.cli import screen
from ops.cli.errors import run as run_app
from ops.settings import REPOSITORY
from tests.scenarios.chaos import audio, audio_plan, hostile, hostile_plan, storm, storm_plan
from tests.scenarios.chaos.stage import Stage, open_stage

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

_MOST_SHOWN = 40


class Part(StrEnum):
    STORM = "storm"
    HOSTILE = "hostile"
    AUDIO = "audio"


@app.command()
def chaos(
    seed: Annotated[int, typer.Option(help="decides jobs, faults and messages")] = 1,
    part: Annotated[Part | None, typer.Option(help="only this part")] = None,
    short: Annotated[bool, typer.Option("--short", help="the size `make test` runs")] = False,
) -> None:
    """Prove on the real parts that no lesson is lost and none is written twice."""
    started = time.monotonic()
    problems: list[str] = []
    with open_stage(screen.say) as stage:
        for chosen in [part] if part else list(Part):
            match chosen:
                case Part.STORM:
                    report: storm.Report | hostile.Report | audio.Report = storm.run(
                        stage, seed, storm_plan.SHORT if short else storm_plan.FULL, screen.say
                    )
                case Part.HOSTILE:
                    size = hostile_plan.SHORT if short else hostile_plan.FULL
                    report = hostile.run(stage, seed, size, screen.say)
                case Part.AUDIO:
                    report = audio.run(stage, audio_plan.rows(short=short), screen.say)
            screen.console.print(report.table())
            for problem in report.problems[:_MOST_SHOWN]:
                screen.console.print(f"! {chosen}: {problem}", markup=False, soft_wrap=True)
            if more := len(report.problems[_MOST_SHOWN:]):
                screen.console.print(f"! {chosen}: and {more} more")
            problems += report.problems
        if problems:
            _keep_logs(stage)
    screen.say(f"chaos: seed {seed}, {time.monotonic() - started:.0f} s, {len(problems)} problems")
    if problems:
        raise typer.Exit(1)


def _keep_logs(stage: Stage) -> None:
    """What the workers said of the jobs that went wrong; the next failure replaces it."""
    kept = REPOSITORY / ".local" / "chaos"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(stage.root, kept, ignore=shutil.ignore_patterns("cloud", "lesson-*"))
    screen.say(f"chaos: the workers' logs are kept in {kept.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what the stage started is ended then, too
    sys.exit(run_app(app))
