"""Verbs that show how things are: status, queue, logs, alarms and the dashboard."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ops.aws import logs
from ops.aws.connection import connect
from ops.cli import screen, status_screen, tables
from ops.errors import OpsError
from ops.observability import alarms, dashboard, queues, status
from ops.settings import Cloud

app = typer.Typer()


@app.command("status")
def show_status(as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False) -> None:
    """Show how things are on one screen; exit code 1 when something is wrong."""
    now = status.read_status(connect())
    if as_json:
        typer.echo(now.model_dump_json(indent=2, by_alias=True))
    else:
        status_screen.show_status(now)
    if not now.healthy:
        raise typer.Exit(1)


@app.command()
def queue() -> None:
    """How many messages are visible, in flight, delayed, and in the dead-letter queue."""
    now = queues.read_queue(connect())
    screen.say(f"{now.visible} visible, {now.in_flight} in flight, {now.delayed} delayed, {now.dead} dead letters")


@app.command("logs")
def show_logs(
    minutes: Annotated[int, typer.Option(help="how far back", min=1)] = 15,
    follow: Annotated[bool, typer.Option(help="go on until Ctrl-C")] = False,
) -> None:
    """The autoscaler's and the processor's events in order of time."""
    aws, since = connect(), datetime.now(UTC) - timedelta(minutes=minutes)
    seen: set[tuple[datetime, str]] = set()
    while True:
        for event in logs.read_events(aws, since):
            text = " ".join(f"{k}={v}" for k, v in event.fields.items() if k not in {"time", "worker", "snapshot"})
            if (event.time, text) not in seen:
                seen.add((event.time, text))
                typer.echo(f"{event.time:%H:%M:%S} {event.source:<20} {text}")
        if not follow:
            return
        time.sleep(2)


@app.command("alarms")
def show_alarms() -> None:
    """The state of each alarm and what to do about it; exit code 1 when one fires."""
    found = alarms.read_alarms(connect())
    if not found:
        raise OpsError("there are no alarms: run `make deploy`")
    tables.show_alarms(found, datetime.now(UTC))
    if any(alarm.fires for alarm in found):
        raise typer.Exit(1)


@app.command("dashboard")
def show_dashboard() -> None:
    """The dashboard's numbers, and on AWS where to look at it."""
    aws = connect()
    rows = dashboard.read_dashboard(aws, datetime.now(UTC))
    tables.show_dashboard(rows, list(dashboard.WINDOWS))
    if aws.settings.cloud is Cloud.AWS:
        screen.say(dashboard.url(aws))
