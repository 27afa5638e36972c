"""Builds the worker from its settings, starts its threads, and ends the machine when the work is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from contracts.hold import Hold
from whisper_processor import __version__
from whisper_processor.aws.instance import Fleet, Machine, Metadata, installed_release, region
from whisper_processor.aws.metrics import Metrics
from whisper_processor.aws.queue import LessonQueue
from whisper_processor.aws.storage import LessonStore
from whisper_processor.database.credentials import SecretCredentials
from whisper_processor.database.jobs import JobStore
from whisper_processor.database.transactions import Database
from whisper_processor.engines.child import ChildTranscriber, Transcriber
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.models.provider import ModelProvider
from whisper_processor.settings import Settings, load_settings
from whisper_processor.telemetry import configure_logging
from whisper_processor.worker.check import check
from whisper_processor.worker.drain import Drain, drain_on_notices, drain_on_signals, until_deadline
from whisper_processor.worker.heartbeat import start_heartbeat
from whisper_processor.worker.intake import Intake
from whisper_processor.worker.job import JobRunner, Services
from whisper_processor.worker.loop import Worker
from whisper_processor.worker.pulse import Pulse

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

# The longest response is the long poll of 20 s; anything else that takes 30 s has gone wrong.
_CLIENT_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4}, connect_timeout=5, read_timeout=30, tcp_keepalive=True
)
log = structlog.get_logger()


@dataclass(frozen=True)
class Clients:
    """Clients of the AWS services that the worker's jobs use."""

    sqs: SQSClient
    s3: S3Client
    secrets: SecretsManagerClient
    cloudwatch: CloudWatchClient

    @classmethod
    def of(cls, session: boto3.session.Session) -> Clients:
        return cls(
            sqs=session.client("sqs", config=_CLIENT_CONFIG),
            s3=session.client("s3", config=_CLIENT_CONFIG),
            secrets=session.client("secretsmanager", config=_CLIENT_CONFIG),
            cloudwatch=session.client("cloudwatch", config=_CLIENT_CONFIG),
        )


@dataclass(frozen=True)
class Assembly:
    """A worker, and those of its parts that others need."""

    worker: Worker
    runner: JobRunner
    services: Services


def assemble(
    settings: Settings,
    clients: Clients,
    transcriber: Transcriber,
    *,
    worker_id: str,
    drain: Drain,
    pulse: Pulse,
    hold: Callable[[], Hold | None] = lambda: None,
) -> Assembly:
    """Build the worker and its collaborators."""
    queue = LessonQueue(clients.sqs, settings.queue_url, settings.dlq_url, settings.visibility_timeout_seconds)
    store = LessonStore(clients.s3, settings.bucket)
    database = Database(
        SecretCredentials(clients.secrets, settings.database_secret),
        ca=settings.database_ca if settings.database_tls else None,
        on_wait=until_deadline(drain, pulse),
    )
    services = Services(
        jobs=JobStore(database, worker_id, lease_seconds=settings.visibility_timeout_seconds),
        store=store,
        models=ModelProvider(store, settings.whisper_models_dir, settings.fetched_models_dir),
        transcriber=transcriber,
        metrics=Metrics(clients.cloudwatch),
    )
    intake = Intake(
        queue,
        store,
        wait_seconds=settings.poll_wait_seconds,
        max_file_bytes=settings.max_file_bytes,
        work_dir=settings.work_dir,
        on_error=lambda error: log.warning("queue_call_failed", error=str(error)),
    )
    runner = JobRunner(
        settings,
        services,
        drain=drain,
        pulse=pulse,
        give_back_prefetched=intake.give_back,
        most_deliveries=_most_deliveries(queue),
    )
    worker = Worker(settings, intake, runner, drain=drain, pulse=pulse, hold=hold)
    return Assembly(worker, runner, services)


def run(transcriber: ChildTranscriber | None = None, sample: Path | None = None) -> int:
    """Run the worker until nothing is left to do or it must leave; returns the process's exit code.

    With a `sample` the release is only checked: it starts as always, and transcribes that recording. The chaos
    tests pass a `transcriber` of their own.
    """
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
        return _run(settings, session, metadata, child, sample)


def _run(
    settings: Settings,
    session: boto3.session.Session,
    metadata: Metadata,
    transcriber: Transcriber,
    sample: Path | None,
) -> int:
    drain, pulse = Drain(), Pulse()
    drain_on_signals(drain, settings.drain_seconds)
    machine = _machine(settings, metadata, session)
    # Unique to this process: a worker that was killed and its successor are two workers.
    worker_id = f"{machine.instance_id if machine else settings.worker_name}/{os.getpid()}"[-64:]
    parts = assemble(
        settings,
        Clients.of(session),
        transcriber,
        worker_id=worker_id,
        drain=drain,
        pulse=pulse,
        # A worker that does not stop its machine works the queue off and exits, hold or not.
        hold=metadata.hold if machine and settings.stop_when_idle else lambda: None,
    )
    if sample is not None:
        return _check(settings, parts.services, sample)
    version = installed_release() or __version__
    log.info("worker_started", version=version, id=worker_id, model=settings.whisper_model)
    if machine:
        _announce(machine, version)
        start_heartbeat(lambda: parts.runner.now, machine, pulse, drain, settings.heartbeat_seconds)
        drain_on_notices(metadata, drain, on_spot=parts.services.metrics.interrupted)
    pulse.ready()
    nothing_left = parts.worker.run()
    parts.services.metrics.close()
    if machine and not _end(machine, metadata, nothing_left=nothing_left, settings=settings):
        return 1
    log.info("worker_ended", drained=drain.requested)
    return 0


def _machine(settings: Settings, metadata: Metadata, session: boto3.session.Session) -> Machine | None:
    """The instance this runs on; None on any other machine (a laptop), which must not be stopped."""
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


def _end(machine: Machine, metadata: Metadata, *, nothing_left: bool, settings: Settings) -> bool:
    """End the machine, if that is this worker's task; False when that failed."""
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


def _most_deliveries(queue: LessonQueue) -> int | None:
    try:
        return queue.most_deliveries()
    except (BotoCoreError, ClientError) as error:
        # Then SQS may move a message to the dead-letter queue before its job is set to `failed`.
        log.warning("redrive_policy_unknown", error=str(error))
        return None


def _check(settings: Settings, services: Services, sample: Path) -> int:
    try:
        words = check(settings, services.models, services.transcriber, sample)
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


def _refuse(why: str) -> int:
    sys.stderr.write(f"whisper-processor: {why}\n")
    return 2
