"""How results look on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ops.images.registry import Image
from ops.lessons.lesson import Job
from ops.lessons.timeline import Moment
from ops.observability.alarms import Alarm
from ops.observability.dashboard import Row
from ops.observability.doctor import Check
from ops.observability.machines import Appliance, FleetNow, HoldNow, Worker
from ops.observability.status import Status
from ops.releases.store import NOT_SAID, Versions

console = Console(highlight=False)


def say(text: str) -> None:
    console.print(f"  {text}", markup=False, soft_wrap=True)


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
    for name, text in status_rows(status, now):
        table.add_row(name, Text(text))
    console.print(table)
    show_jobs(status.jobs)
    for problem in status.problems:
        console.print(f"! {problem}", markup=False)


def status_rows(status: Status, now: datetime) -> Iterator[tuple[str, str]]:
    if fleet := status.fleet:
        yield from _fleet_rows(fleet, status.machines, now)
    elif appliance := status.appliance:
        ago = f" for {age(appliance.since, now)}" if appliance.since else ""
        yield "appliance", f"{appliance.instance_id}  {appliance.state}{ago}"
        address = appliance.public_address or "no public address"
        yield "", f"{appliance.instance_type}, {appliance.image_id}, {address}"
        yield "hold", _hold(appliance.hold)
        yield "worker", _worker(appliance.worker, now)
    else:
        yield "appliance", "none"
    if status.rolling:
        yield "replacement", f"{', '.join(status.rolling)}; `make replace` ends it"
    version = status.version
    yield "processor", f"wanted {version.wanted or 'none set'}, installed {version.installed or 'not said yet'}"
    yield "autoscaler", version.autoscaler or "no version is live: run `make deploy-lambda`"
    decision = status.decision
    yield (
        "last decision",
        f"{decision.action}, {age(decision.time, now)} ago: {decision.reason}" if decision else "none seen",
    )
    queue = status.queue
    oldest = f", oldest {queue.oldest_seconds:.0f} s" if queue.backlog and queue.oldest_seconds else ""
    yield "queue", f"{queue.visible} visible, {queue.in_flight} in flight, {queue.delayed} delayed{oldest}"
    yield "dead letters", str(queue.dead)
    cost = status.month_to_date
    yield "this month", f"${cost.usd:.2f}: {cost.hours_up:.1f} h up, {cost.disk_gib} GiB of disk ({cost.source})"


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


def _fleet_rows(fleet: FleetNow, machines: Sequence[Appliance], now: datetime) -> Iterator[tuple[str, str]]:
    states = ", ".join(f"{count} {state}" for state, count in sorted(fleet.states.items())) or "no machines"
    yield "fleet", f"{fleet.name}  desired {fleet.desired} of {fleet.maximum}: {states}"
    yield "hold", _hold(fleet.hold)
    for machine in machines:
        ago = f" for {age(machine.since, now)}" if machine.since else ""
        what = f"{machine.state}{ago}, {machine.instance_type}; {_worker(machine.worker, now)}"
        yield "machine", f"{machine.instance_id}  {what}"


def _hold(hold: HoldNow | None) -> str:
    if hold is None:
        return "none"
    if hold.until is None:
        return f"{hold.by!r}, which cannot be read and holds until `make resume`"
    return f"by {hold.by} until {hold.until:%Y-%m-%d %H:%M} UTC{'' if hold.active else ' (over)'}"


def _worker(worker: Worker | None, now: datetime) -> str:
    if worker is None:
        return "no heartbeat yet"
    job = f"job {worker.job_id}, {worker.progress} %" if worker.job_id else "idle"
    return f"{job}; heartbeat {age(worker.heartbeat, now)} ago{', SILENT' if worker.silent else ''}"


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


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if value < 1 else f"{value:,.1f}"


def show_check(check: Check, *, new_path: bool) -> None:
    if new_path:
        console.print(check.path, style="bold", markup=False)
    console.print(f"  {check.verdict:<7} {check.name}: {check.detail}", markup=False, soft_wrap=True)
    if check.remedy:
        console.print(f"          -> {check.remedy}", markup=False, soft_wrap=True)


def show_timeline(moments: Sequence[Moment]) -> None:
    start = moments[0].time
    table = Table("", "after", "", box=None)
    for moment in moments:
        after = f"{(moment.time - start).total_seconds():6.1f} s" if moment.time and start else "not seen"
        table.add_row(moment.name, after, moment.detail)
    console.print(table)


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


def age(moment: datetime, now: datetime) -> str:
    seconds = int((now - moment).total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
