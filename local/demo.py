"""`make demo`: the operator's verbs in their order, against the local cloud."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from contracts.jobs import EngineName
from contracts.keys import Owner
from local.platform.cloud import LocalCloud
from ops.autoscaler import release
from ops.aws.connection import Connection
from ops.aws.logs import read_events
from ops.capacity import mode
from ops.cli import screen, tables
from ops.cli.lessons import submit_with_progress, watch_with_progress
from ops.errors import OpsError
from ops.infrastructure import deploy, migrate
from ops.lessons import lesson
from ops.lessons.timeline import Moment, timeline
from ops.prices import cost_usd, hourly_price
from ops.releases.settings import appliance_settings, write_settings
from ops.settings import OpsSettings
from ops.waiting import TooLong, wait_for
from whisper_processor import models

# Three empty polls of 20 s each would be most of the demo.
_SHORT_POLLS = {"POLL_WAIT_SECONDS": "2", "PROGRESS_SECONDS": "0.5"}
_SETTLE_SECONDS = 120.0
_RULE_SECONDS = 100.0


def demo(cloud: LocalCloud, file: Path) -> None:
    settings = OpsSettings()
    if not file.is_file():
        raise OpsError(f"no such file: {file}")
    hourly_price(settings.instance_type)
    aws = Connection(settings)

    _title("make models", "the real Whisper base model, verified by sha256")
    models.fetch("base", EngineName.FASTER_WHISPER, settings.models_dir, settings.models_from, screen.say)
    _title("make up", "the whole cloud on this machine")
    cloud.up(screen.say)
    _title("make deploy", "the same templates and code as on AWS")
    deploy.deploy_infra(aws, screen.say)
    migrate.migrate(aws.database())
    screen.say("tables of the database are up to date")
    release.deploy(aws, screen.say)
    write_settings(aws, appliance_settings() | _SHORT_POLLS, screen.say)
    screen.say("(polls of 2 s instead of 20 s, for the demo only; `make deploy` sets them back)")
    machines = mode.of(aws)
    machines.launch(aws, screen.say)
    # A hold from an earlier `make stop` would keep the autoscaler from doing what is to be shown.
    machines.resume(aws, screen.say)
    with screen.console.status("there is no work, so nothing stays up"):
        machines.wait_idle(aws, _SETTLE_SECONDS)
    screen.say(machines.idle)

    _title("make submit", str(file))
    job_id = submit_with_progress(aws, file, Owner(school_id=1, teacher_id=1), {})
    uploaded = _uploaded(aws, job_id)
    _title("make watch", job_id)
    watch_with_progress(aws, job_id, timeout=4 * 3600)
    with screen.console.status("three empty polls, then the machine ends its own cost"):
        machines.wait_idle(aws, _SETTLE_SECONDS)
    stopped = datetime.now(UTC)
    transcript = lesson.transcript(aws, job_id)
    _title("make transcript", f"{transcript.word_count} words, confidence {transcript.confidence:.2f}")
    screen.console.print(transcript.text, markup=False, soft_wrap=True)

    _title("timeline", "")
    moments = timeline(read_events(aws, uploaded), job_id, uploaded, stopped)
    tables.show_timeline(moments)
    _tell_cost(moments, lesson.find_job(aws, job_id), settings.instance_type)
    _wait_for_rule(aws)
    machines.wait_idle(aws, _SETTLE_SECONDS)
    screen.say(machines.idle)
    screen.say("the local cloud stays up: try `make status`, `make logs`; `make down` stops it")


def _title(verb: str, text: str) -> None:
    screen.console.print(f"[bold]{verb}[/bold]  ", end="")
    screen.console.print(text, markup=False)


def _uploaded(aws: Connection, job_id: str) -> datetime:
    key = lesson.find_job(aws, job_id).s3_key
    return aws.s3.head_object(Bucket=aws.foundation["BucketName"], Key=key)["LastModified"]


def _tell_cost(moments: list[Moment], job: lesson.Job, instance_type: str) -> None:
    times = {moment.name: moment.time for moment in moments}
    started, stopped = times["started"], times["stopped"]
    if started is None or stopped is None or not job.duration_seconds:
        return
    seconds = (stopped - started).total_seconds()
    cents = 100 * cost_usd(seconds, instance_type)
    screen.say(
        f"cost: {cents:.3f} US cents on {instance_type} for {seconds:.0f} s from start to stop"
        f" (${hourly_price(instance_type)} an hour, a minute at least), if it is as fast as this machine"
    )


def _wait_for_rule(aws: Connection) -> None:
    """Show that the one-minute rule runs the function, too. After a first deploy that takes up to a minute."""
    since = datetime.now(UTC) - timedelta(minutes=3)

    def last_tick() -> dict[str, Any] | None:
        ticks = [event.fields for event in read_events(aws, since) if event.fields.get("trigger") == "schedule"]
        return ticks[-1] if ticks else None

    try:
        with screen.console.status("waiting for the autoscaler's one-minute rule"):
            last = wait_for(last_tick, _RULE_SECONDS)
    except TooLong:
        raise OpsError("the one-minute rule did not run the autoscaler: run `make logs`") from None
    screen.say(f"one-minute rule: last decision {last.get('action')}: {last.get('reason')}")
