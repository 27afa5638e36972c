"""`make plan`: what it will cost, how long lessons will wait, and which way of running the system to choose."""

from __future__ import annotations

import math
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from ops.cli import screen
from ops.cli.errors import run
from ops.errors import OpsError
from ops.settings import REPOSITORY, OpsSettings
from planner import figures, report
from planner.answers import Answer, Refusal
from planner.plan import in_words, make_plan
from planner.trace import LONGEST_DAYS, Schools, Trace, generate, read_csv

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)

_LESSONS_A_SCHOOL = 8
_MOST_LESSONS = 2_000_000
_PLANS = REPOSITORY / ".local" / "plan"


@app.command()
def plan(
    schools: Annotated[int | None, typer.Option(help="how many schools", min=1, max=200_000)] = None,
    lessons: Annotated[
        int | None,
        typer.Option(help="lessons a day of all schools together; 8 a school", min=1, max=_MOST_LESSONS),
    ] = None,
    days: Annotated[int, typer.Option(help="days to simulate, from a Monday on", min=1, max=LONGEST_DAYS)] = 1,
    holidays: Annotated[str, typer.Option(help="days without school, 1 is the first Monday: 3,4")] = "",
    trace: Annotated[Path | None, typer.Option(help="a CSV file of times and durations instead")] = None,
    target: Annotated[float, typer.Option(help="minutes that p95 of the waits is to stay under")] = 15,
    maximum: Annotated[
        int | None,
        typer.Option(help="of machines in a fleet; the smallest that keeps the target is looked for", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="decides uploads, boots and interruptions", min=0)] = 1,
    exact: Annotated[bool, typer.Option(help="simulate every lesson, however many there are")] = False,
) -> None:
    """Simulate the uploads under each policy and write the report."""
    if not 0 < target <= 7 * 24 * 60:
        raise OpsError(f"TARGET is minutes above 0, a week at most, not {target:g}")
    numbers, settings = figures.load(), OpsSettings()
    name, title, uploads = _uploads(schools, lessons, days, holidays, trace, seed)
    hours = uploads.seconds.sum() / 3600
    screen.say(f"{title}: {len(uploads):,} lessons in {uploads.days} day(s), {hours:,.0f} h of audio")
    with screen.console.status("simulating") as status:
        made = make_plan(
            title,
            uploads,
            numbers,
            instance_type=settings.instance_type,
            fleet_types=[name for name in settings.fleet_instance_types.split(",") if name],
            target=timedelta(minutes=target),
            seed=seed,
            exact=exact,
            maximum=maximum,
            tell=status.update,
            done=_say_done,
        )
        status.update("drawing")
        page = report.write(made, _PLANS / f"{name}-target-{target:g}")
    screen.console.print(report.policy_table(made))
    for refusal in made.refusals:
        screen.say(f"{refusal.policy.name}: {refusal.reason}")
    for sentence in in_words(made):
        screen.say(sentence)
    screen.say(f"{made.seconds:.1f} s; report: {page.relative_to(REPOSITORY)}, plots beside it")


def _say_done(found: Answer | Refusal, seconds: float) -> None:
    if isinstance(found, Answer) and seconds > 1:
        screen.say(f"{found.policy.name}: simulated in {seconds:.1f} s")


def _uploads(
    schools: int | None, lessons: int | None, days: int, holidays: str, trace: Path | None, seed: int
) -> tuple[str, str, Trace]:
    """A name for the folder, a title, and the trace."""
    if trace is not None:
        if schools is not None or lessons is not None:
            raise OpsError("TRACE has the lessons: leave SCHOOLS and LESSONS away")
        return f"trace-{trace.stem}", f"The uploads of {trace.name}", read_csv(trace)
    if lessons is None:
        lessons = _LESSONS_A_SCHOOL * (schools or 1)
        if lessons > _MOST_LESSONS:
            raise OpsError(f"{lessons:,} lessons a day; {_MOST_LESSONS:,} are the most")
    if schools is None:
        schools = math.ceil(lessons / _LESSONS_A_SCHOOL)
    wanted = Schools(schools, lessons, days, _days_off(holidays))
    name = f"schools-{schools}-lessons-{lessons}-days-{days}"
    many = f"{schools:,} schools" if schools > 1 else "One school"
    uploads = generate(wanted, seed)
    if not len(uploads):
        raise OpsError("these days bring no lesson: more LESSONS, or fewer HOLIDAYS")
    return name, f"{many}, {lessons:,} lessons a day", uploads


def _days_off(text: str) -> frozenset[int]:
    try:
        return frozenset(int(day) for day in text.split(",") if day.strip())
    except ValueError:
        raise OpsError(f"HOLIDAYS takes numbers of days, such as 3,4, not {text}") from None


if __name__ == "__main__":
    sys.exit(run(app))
