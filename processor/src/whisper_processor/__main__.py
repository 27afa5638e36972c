"""`python -m whisper_processor`, and the documented `python3.11 processor.py`: run the worker."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError
from urllib3.exceptions import HTTPError

from whisper_processor.database import JobStore, SecretCredentials
from whisper_processor.instance import Machine, Metadata
from whisper_processor.intake import Intake
from whisper_processor.queue import LessonQueue
from whisper_processor.settings import Settings, load_settings
from whisper_processor.storage import LessonStore
from whisper_processor.telemetry import configure_logging
from whisper_processor.transcriber import ChildTranscriber
from whisper_processor.worker import Drain, Worker, start_heartbeat

_SPOT_NOTICE_SECONDS = 110.0  # two minutes are given; ten seconds are kept to say goodbye
_SPOT_CHECK_SECONDS = 5.0
log = structlog.get_logger()


def main() -> int:
    # boto3's own retries, with its client-side rate limiting; the long poll needs the longer read timeout.
    config = Config(retries={"mode": "adaptive", "max_attempts": 6}, connect_timeout=5, read_timeout=70)
    metadata = Metadata()
    try:
        session = boto3.session.Session(region_name=_region(metadata))
        settings = load_settings(session.client("ssm", config=config))
    except ValidationError as error:
        missing = ", ".join(f"{str(e['loc'][0]).upper()} ({e['msg']})" for e in error.errors())
        sys.stderr.write(f"whisper-processor: settings are missing or wrong: {missing}\n")
        return 2
    except (BotoCoreError, ClientError) as error:
        sys.stderr.write(f"whisper-processor: settings cannot be read from Parameter Store: {error}\n")
        return 1
    configure_logging(settings.worker_name)
    return run(settings, session, config, metadata)


def run(settings: Settings, session: boto3.session.Session, config: Config, metadata: Metadata) -> int:
    drain = Drain()
    _drain_on_signals(drain, settings.drain_seconds)
    machine = _machine(settings, metadata, session, config)
    queue = LessonQueue(
        session.client("sqs", config=config),
        settings.queue_url,
        settings.dlq_url,
        settings.visibility_timeout_seconds,
    )
    store = LessonStore(session.client("s3", config=config), settings.bucket)
    secrets = SecretCredentials(session.client("secretsmanager", config=config), settings.database_secret)
    worker_id = machine.instance_id if machine else settings.worker_name
    log.info("worker_started", instance=machine.instance_id if machine else None, model=settings.whisper_model)
    intake = Intake(
        queue,
        store,
        wait_seconds=settings.poll_wait_seconds,
        max_file_bytes=settings.max_file_bytes,
        work_dir=settings.work_dir,
        on_error=lambda error: log.warning("queue_call_failed", error=str(error)),
    )
    with ChildTranscriber() as transcriber:
        worker = Worker(
            settings,
            intake=intake,
            jobs=JobStore(secrets, worker_id, ca=settings.database_ca),
            store=store,
            transcriber=transcriber,
            drain=drain,
        )
        if machine:
            start_heartbeat(worker, machine, drain, settings.heartbeat_seconds)
            _drain_on_spot_notice(metadata, drain)
        nothing_left = worker.run()
    if nothing_left and machine and settings.stop_when_idle:
        log.info("instance_stopping", reason=f"the queue was empty {settings.empty_polls} times in a row")
        machine.stop()
    log.info("worker_ended", drained=drain.requested)
    return 0


def _region(metadata: Metadata) -> str | None:
    """boto3 itself reads AWS_DEFAULT_REGION alone; an instance knows where it is."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    try:
        return metadata.region
    except HTTPError:
        return None  # the configuration file may name it


def _machine(
    settings: Settings, metadata: Metadata, session: boto3.session.Session, config: Config
) -> Machine | None:
    """The instance this runs on; None on a machine that is none (a laptop), where nothing is to be stopped."""
    instance_id = settings.instance_id
    if not instance_id:
        try:
            instance_id = metadata.instance_id
        except HTTPError:
            log.warning("not_on_ec2", detail="no instance metadata: this machine is not stopped when idle")
            return None
    return Machine(session.client("ec2", config=config), instance_id)


def _drain_on_signals(drain: Drain, seconds: float) -> None:
    def on_signal(number: int, _frame: FrameType | None) -> None:
        drain.request(seconds)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _drain_on_spot_notice(metadata: Metadata, drain: Drain) -> None:
    def watch() -> None:
        while not drain.wait(_SPOT_CHECK_SECONDS):
            if metadata.leaving():
                log.warning("spot_notice", detail="this instance is taken back in two minutes")
                drain.request(_SPOT_NOTICE_SECONDS)

    threading.Thread(target=watch, name="spot", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
