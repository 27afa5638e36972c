"""Verbs for trouble: the doctor, a shell on the appliance, the processor by hand, and destroy."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ops.aws.connection import connect
from ops.capacity import appliance
from ops.cli import screen, tables
from ops.errors import OpsError
from ops.infrastructure import destroy
from ops.observability import doctor

app = typer.Typer()


@app.command("doctor")
def show_doctor() -> None:
    """Walk the troubleshooting paths: what is wrong, and what fixes it; exit code 1 when something is."""
    wrong = 0
    path = ""
    for check in doctor.examine(connect()):
        tables.show_check(check, new_path=check.path != path)
        path = check.path
        wrong += check.verdict is doctor.Verdict.WRONG
    if wrong:
        raise typer.Exit(1)


@app.command()
def session() -> None:
    """Open a shell on the appliance (SSM Session Manager; no SSH)."""
    appliance.session(connect())


@app.command("run-processor")
def run_processor(
    minutes: Annotated[float, typer.Option(help="how long at most", min=1, max=60)] = 15.0,
) -> None:
    """Run the documented manual command on the appliance, in the service's place, and show what it says."""
    typer.echo(appliance.run_processor(connect(), minutes, screen.say), nl=False)


@app.command("destroy")
def run_destroy(
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    lose_queue: Annotated[bool, typer.Option(help="even when lessons wait in the queues that go")] = False,
) -> None:
    """Take everything down but lessons, transcripts, secret and database; asks first."""
    aws = connect()
    for line in destroy.plan(aws, lose_waiting=lose_queue):
        screen.say(line)
    if not yes:
        if not sys.stdin.isatty():
            raise OpsError("nothing was changed: confirm with YES=1")
        typer.confirm("Destroy it?", abort=True)
    destroy.destroy(aws, screen.say)
