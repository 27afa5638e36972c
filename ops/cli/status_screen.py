"""The screen of `make status`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from ops.cli.screen import age, console
from ops.cli.tables import show_jobs
from ops.observability.machines import Appliance, FleetNow, HoldNow, Worker
from ops.observability.status import Status


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
    if status.replacing:
        yield "replacement", f"{', '.join(status.replacing)}; `make replace` ends it"
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
