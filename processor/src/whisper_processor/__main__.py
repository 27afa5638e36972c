"""`python -m whisper_processor`, and the documented `python3.11 processor.py`: run the worker."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from whisper_processor import __version__
from whisper_processor.aws.instance import Fleet, Machine, Metadata, installed_release, region
from whisper_processor.aws.metrics import Metrics
from whisper_processor.aws.queue import LessonQueue
from whisper_processor.aws.storage import LessonStore
from whisper_processor.database.jobs import JobStore, SecretCredentials
from whisper_processor.engines.child import ChildTranscriber, Transcriber
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.settings import Settings, load_settings
from whisper_processor.telemetry import configure_logging
from whisper_processor.worker.drain import Drain, drain_on_notices, drain_on_signals
from whisper_processor.worker.intake import Intake
from whisper_processor.worker.loop import Worker, start_heartbeat
from whisper_processor.worker.pulse import Pulse

# The long poll of 20 s is the longest answer there is; everything else that takes 30 s has gone wrong.
_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=30, tcp_keepalive=True
)
log = structlog.get_logger()


def main(transcriber: ChildTranscriber | None = None, sample: Path | None = None) -> int:
    """Run the worker; `transcriber` is for rehearsals that plant what the engine does. With a `sample` it is only
    checked: all of its start, and a transcription of that recording."""
    metadata = Metadata()
    try:
        session = boto3.session.Session(region_name=region(metadata))
        settings = load_settings(session.client("ssm", config=_CLIENT_CONFIG))
    except ValidationError as error:
        missing = ", ".join(f"{str(e['loc'][0]).upper()} ({e['msg']})" for e in error.errors())
        return _refuse(f"settings are missing or wrong: {missing}")
    except (BotoCoreError, ClientError) as error:
        return _refuse(f"settings cannot be read from Parameter Store: {error}")
    if settings.database_tls and not settings.database_ca.is_file():
        return _refuse(f"DATABASE_CA names no file: {settings.database_ca}")
    configure_logging(settings.worker_name)
    with transcriber or ChildTranscriber() as child:
        return run(settings, session, metadata, child, sample)


def run(
    settings: Settings,
    session: boto3.session.Session,
    metadata: Metadata,
    transcriber: Transcriber,
    sample: Path | None = None,
) -> int:
    """Work until there is nothing left to do or the worker is asked to leave; the process's exit code."""
    drain, pulse = Drain(), Pulse()
    drain_on_signals(drain, settings.drain_seconds)
    machine = _machine(settings, metadata, session)
    queue = LessonQueue(
        session.client("sqs", config=_CLIENT_CONFIG),
        settings.queue_url,
        settings.dlq_url,
        settings.visibility_timeout_seconds,
    )
    store = LessonStore(session.client("s3", config=_CLIENT_CONFIG), settings.bucket)
    secrets = SecretCredentials(session.client("secretsmanager", config=_CLIENT_CONFIG), settings.database_secret)
    metrics = Metrics(session.client("cloudwatch", config=_CLIENT_CONFIG))
    # Unique to this process: a worker that was killed and the one that follows it are two.
    worker_id = f"{machine.instance_id if machine else settings.worker_name}/{os.getpid()}"[-64:]
    worker = Worker(
        settings,
        intake=Intake(
            queue,
            store,
            wait_seconds=settings.poll_wait_seconds,
            max_file_bytes=settings.max_file_bytes,
            work_dir=settings.work_dir,
            on_error=lambda error: log.warning("queue_call_failed", error=str(error)),
        ),
        jobs=JobStore(
            secrets,
            worker_id,
            ca=settings.database_ca if settings.database_tls else None,
            lease_seconds=settings.visibility_timeout_seconds,
        ),
        store=store,
        transcriber=transcriber,
        metrics=metrics,
        drain=drain,
        pulse=pulse,
        most_deliveries=_most_deliveries(queue),
        # Who does not stop the instance afterwards works off the queue and ends, hold or not.
        hold=metadata.hold if machine and settings.stop_when_idle else lambda: None,
    )
    if sample is not None:
        return _check(worker, sample)
    version = installed_release() or __version__
    log.info("worker_started", version=version, id=worker_id, model=settings.whisper_model)
    if machine:
        _announce(machine, version)
        start_heartbeat(worker, machine, pulse, drain, settings.heartbeat_seconds)
        drain_on_notices(metadata, drain, on_spot=metrics.interrupted)
    pulse.ready()
    nothing_left = worker.run()
    metrics.close()
    if machine and not _end(machine, metadata, nothing_left=nothing_left, settings=settings):
        return 1
    log.info("worker_ended", drained=drain.requested)
    return 0


def _end(machine: Machine, metadata: Metadata, *, nothing_left: bool, settings: Settings) -> bool:
    """End the machine, if that is this worker's to do; False when it could not be."""
    try:
        if machine.fleet and metadata.retiring():
            done = machine.fleet.let_go(machine.instance_id)
            log.info("instance_let_go", group=machine.fleet.name, hook_completed=done)
        elif nothing_left and settings.stop_when_idle:
            reason = f"the queue was empty {settings.empty_polls} times in a row"
            log.info("instance_stopping", reason=reason, group=machine.fleet.name if machine.fleet else None)
            machine.leave()
    except (BotoCoreError, ClientError) as error:
        log.critical("instance_not_stopped", error=str(error))
        return False
    return True


def _refuse(why: str) -> int:
    sys.stderr.write(f"whisper-processor: {why}\n")
    return 2


def _machine(settings: Settings, metadata: Metadata, session: boto3.session.Session) -> Machine | None:
    """The instance this runs on; None on a machine that is none (a laptop), where nothing is to be stopped."""
    instance_id = settings.instance_id
    if not instance_id:
        try:
            instance_id = metadata.instance_id
        except HTTPError:
            log.warning("not_on_ec2", detail="no instance metadata: this machine is not stopped when idle")
            return None
    group = metadata.group()
    fleet = Fleet(session.client("autoscaling", config=_CLIENT_CONFIG), group) if group else None
    return Machine(session.client("ec2", config=_CLIENT_CONFIG), instance_id, fleet)


def _most_deliveries(queue: LessonQueue) -> int | None:
    try:
        return queue.most_deliveries()
    except (BotoCoreError, ClientError) as error:
        # Not knowing costs a late answer only: SQS then moves the message without the job being told.
        log.warning("redrive_policy_unknown", error=str(error))
        return None


def _check(worker: Worker, sample: Path) -> int:
    try:
        words = worker.rehearse(sample)
        if words == 0:
            raise PermanentError(f"nothing was heard in {sample}")
    except (PermanentError, TransientError) as error:
        log.critical("check_failed", error=str(error))
        return 1
    log.info("check_passed", release=installed_release(), words=words)
    return 0


def _announce(machine: Machine, version: str) -> None:
    try:
        machine.announce(version)
    except (BotoCoreError, ClientError) as error:
        log.warning("version_not_announced", error=str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, metavar="SAMPLE", help="transcribe it and end, taking no lesson")
    sys.exit(main(sample=parser.parse_args().check))
