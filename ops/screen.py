"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ops.lessons import Job
from ops.status import Status
from ops.timeline import Moment

console = Console(highlight=False)


def say(text: str) -> None:
    console.print(f"  {text}", markup=False)


def progress_bar() -> Progress:
    return Progress(
        TextColumn("  {task.description:<24}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def show_jobs(jobs: Sequence[Job]) -> None:
    table = Table("job", "status", "%", "attempts", "school", "teacher", "audio s", "error", box=None)
    for job in jobs:
        table.add_row(
            job.id,
            job.status,
            str(job.progress),
            str(job.attempts),
            str(job.school_id),
            str(job.teacher_id),
            "-" if job.duration_seconds is None else str(job.duration_seconds),
            (job.error_message or "")[:60],
        )
    console.print(table)


def show_status(status: Status) -> None:
    now = datetime.now(UTC)
    table = Table(box=None, show_header=False)
    if appliance := status.appliance:
        table.add_row(
            "appliance", f"{appliance.instance_id}  {appliance.state}, launched {age(appliance.since, now)} ago"
        )
        table.add_row("", f"{appliance.instance_type}, {appliance.image_id}")
        table.add_row("hold", appliance.hold or "none")
        table.add_row("heartbeat", appliance.heartbeat or "none yet")
    else:
        table.add_row("appliance", "none")
    queue = status.queue
    table.add_row("queue", f"{queue.visible} visible, {queue.in_flight} in flight, {queue.delayed} delayed")
    table.add_row("dead letters", str(queue.dead))
    if decision := status.decision:
        table.add_row("last decision", f"{decision.action}, {age(decision.time, now)} ago: {decision.reason}")
    console.print(table)
    show_jobs(status.jobs)
    for problem in status.problems:
        console.print(f"! {problem}", markup=False)


def show_timeline(moments: Sequence[Moment]) -> None:
    start = moments[0].time
    table = Table("", "after", "", box=None)
    for moment in moments:
        after = f"{(moment.time - start).total_seconds():6.1f} s" if moment.time and start else "not seen"
        table.add_row(moment.name, after, moment.detail)
    console.print(table)


def age(moment: datetime, now: datetime) -> str:
    seconds = int((now - moment).total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
