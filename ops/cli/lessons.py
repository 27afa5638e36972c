"""Verbs for lessons: submit, watch, list and read them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from contracts.jobs import EngineName
from contracts.keys import Owner
from ops.aws.connection import Connection, connect
from ops.cli import screen, tables
from ops.errors import OpsError
from ops.lessons import lesson
from whisper_processor import models

app = typer.Typer()

JobId = Annotated[str, typer.Argument(help="job id, or `last`")]


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="audio or video file")],
    school: Annotated[int, typer.Option(min=1)] = 1,
    teacher: Annotated[int, typer.Option(min=1)] = 1,
    model: Annotated[str, typer.Option(help="empty: the appliance's default")] = "",
    engine: Annotated[
        str,
        typer.Option(help="openvino, faster-whisper or openai-whisper; empty: as its CPU is"),
    ] = "",
    language: Annotated[str, typer.Option(help="ISO 639-1 code; empty: detect")] = "",
) -> None:
    """Upload a recording and queue it: what the backend does. Prints the job's id."""
    request = {
        key: value for key, value in (("model", model), ("engine", engine), ("language", language)) if value
    }
    typer.echo(submit_with_progress(connect(), file, Owner(school_id=school, teacher_id=teacher), request))


def submit_with_progress(aws: Connection, file: Path, owner: Owner, request: dict[str, str]) -> str:
    if request.get("model"):
        engine = EngineName(request.get("engine", EngineName.FASTER_WHISPER))
        try:
            models.known(request["model"], engine)
        except models.ModelError as error:
            raise OpsError(str(error)) from error
    size = file.stat().st_size if file.is_file() else None
    with screen.progress_bar() as bar:
        task = bar.add_task("upload", total=size)
        return lesson.submit(aws, file, owner, request, lambda count: bar.advance(task, count))


@app.command()
def watch(
    job: JobId = "last", timeout: Annotated[float, typer.Option(help="seconds to wait at most")] = 7200.0
) -> None:
    """Show a job's progress until it ends; fails when the job failed."""
    watch_with_progress(connect(), job, timeout)


def watch_with_progress(aws: Connection, job_id: str, timeout: float) -> lesson.Job:
    job = lesson.find_job(aws, job_id)  # `last` becomes its id
    state, looked = "", 0.0
    with screen.progress_bar() as bar:
        task = bar.add_task("waiting", total=100)

        def show(now: lesson.Job) -> None:
            nonlocal state, looked
            if time.monotonic() - looked > 1:
                found = aws.find_instance()
                state, looked = found["State"]["Name"] if found else "no machine", time.monotonic()
            bar.update(task, description=f"{now.status}, {state}", completed=now.progress)

        job = lesson.follow(aws, job.id, timeout, show)
    if job.error_message and job.status == "failed":
        raise OpsError(f"job {job.id} failed: {job.error_message}")
    return job


@app.command()
def jobs(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """List jobs, those not yet started first, then the latest."""
    tables.show_jobs(lesson.list_jobs(connect(), limit))


@app.command()
def transcript(job: JobId = "last") -> None:
    """Print a lesson's transcript."""
    typer.echo(lesson.transcript(connect(), job).text)
