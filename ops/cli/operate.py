"""Verbs that operate the appliance by hand: start and stop, holds, the dead-letter queue."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from ops.aws.connection import connect
from ops.capacity import mode
from ops.cli import screen
from ops.lessons import dead_letters

app = typer.Typer()

Hours = Annotated[
    float, typer.Option(help="how long the autoscaler leaves the appliance alone", min=0.01, max=168)
]


@app.command()
def start(hours: Hours = 1.0) -> None:
    """Start the appliance, and hold the autoscaler off so that it stays up."""
    aws = connect()
    mode.of(aws).start(aws, timedelta(hours=hours), screen.say)


@app.command()
def stop(hours: Hours = 1.0) -> None:
    """Stop the appliance, and hold the autoscaler off so that it stays down."""
    aws = connect()
    mode.of(aws).stop(aws, timedelta(hours=hours), screen.say)


@app.command()
def hold(hours: Hours = 1.0) -> None:
    """Keep the autoscaler from starting or stopping the appliance."""
    aws = connect()
    mode.of(aws).hold(aws, timedelta(hours=hours), screen.say)


@app.command()
def resume() -> None:
    """End a hold: the autoscaler looks after the appliance again."""
    aws = connect()
    mode.of(aws).resume(aws, screen.say)


@app.command("release")
def old_name_of_resume() -> None:
    """The old name of `resume`, for one more version."""
    screen.say("`make release` is now called `make resume`")
    resume()


@app.command()
def dlq(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50) -> None:
    """What lies in the dead-letter queue, and why."""
    found = dead_letters.look(connect(), limit)
    for dead_letter in found:
        screen.say(f"{dead_letter.job_id or 'unreadable'}: {dead_letter.reason}")
    screen.say(f"{len(found)} dead letters")


@app.command()
def redrive(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    dry_run: Annotated[bool, typer.Option(help="only say what would go back")] = False,
) -> None:
    """Send messages from the dead-letter queue to the lesson queue again, with their attempts at zero."""
    count = dead_letters.redrive(connect(), limit, dry_run=dry_run, say=screen.say)
    screen.say(f"{count} {'would go' if dry_run else 'went'} back to the lesson queue")
