"""The tables that the verbs print."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from ops.cli.screen import age, console, say
from ops.images.registry import Image
from ops.lessons.lesson import Job
from ops.lessons.timeline import Moment
from ops.observability.alarms import Alarm
from ops.observability.dashboard import Row
from ops.observability.doctor import Check
from ops.releases.store import NOT_SAID, Versions


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


def show_timeline(moments: Sequence[Moment]) -> None:
    start = moments[0].time
    table = Table("", "after", "", box=None)
    for moment in moments:
        after = f"{(moment.time - start).total_seconds():6.1f} s" if moment.time and start else "not seen"
        table.add_row(moment.name, after, moment.detail)
    console.print(table)


def show_versions(found: Versions) -> None:
    table = Table("release", "in the bucket since", "", "runs on", box=None)
    for row in found.releases:
        since = f"{row.published:%Y-%m-%d %H:%M} UTC" if row.published else "no, baked into an image"
        note = "wanted" if row.wanted else "before it" if row.previous else ""
        where = ", ".join(f"{runner.instance_id} ({runner.state})" for runner in row.on)
        table.add_row(row.name, since if row.name != NOT_SAID else "-", note, where)
    console.print(table)
    if found.wanted and found.set_at:
        say(f"{found.wanted} is wanted by {found.set_by} since {found.set_at:%Y-%m-%d %H:%M} UTC")
    else:
        say("no release is wanted: each appliance runs its image's; `make deploy-processor` changes that")


def show_images(images: Sequence[Image], superfluous: Sequence[Image]) -> None:
    table = Table("image", "baked", "processor", "revision", "snapshots", "needed by", box=None)
    for number, image in enumerate(images):
        kept = "kept as the newest" if number == 0 else "kept as the way back"
        needed = ", ".join(image.references) or ("nothing: prune-images" if image in superfluous else kept)
        table.add_row(
            image.id,
            f"{image.created:%Y-%m-%d %H:%M}",
            image.processor,
            image.revision,
            ", ".join(image.snapshots),
            needed,
        )
    console.print(table)


def show_alarms(alarms: Sequence[Alarm], now: datetime) -> None:
    table = Table("alarm", "state", "for", "what to do", box=None)
    for alarm in alarms:
        table.add_row(alarm.name, alarm.state, age(alarm.since, now), Text(alarm.advice))
    console.print(table)
    for alarm in alarms:
        if alarm.fires:
            console.print(f"! {alarm.name}: {alarm.reason}", markup=False)


def show_dashboard(rows: Sequence[Row], windows: Sequence[str]) -> None:
    table = Table("", "", "", *windows, box=None)
    above = ""
    for row in rows:
        numbers = (row.values.get(window) for window in windows)
        shown = [
            "-" if number is None else f"{number:g}" if number < 1 else f"{number:,.1f}" for number in numbers
        ]
        table.add_row("" if row.widget == above else row.widget, row.label, row.statistic, *shown)
        above = row.widget
    console.print(table)


def show_check(check: Check, *, new_path: bool) -> None:
    if new_path:
        console.print(check.path, style="bold", markup=False)
    console.print(f"  {check.verdict:<7} {check.name}: {check.detail}", markup=False, soft_wrap=True)
    if check.remedy:
        console.print(f"          -> {check.remedy}", markup=False, soft_wrap=True)
