"""A worker on a thread of this process, with queues of its own: for tests that look into its loop."""

from __future__ import annotations

import json
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psutil
from botocore.exceptions import EndpointConnectionError

from contracts.hold import Hold
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from testbed.waiting import PATIENCE
from whisper_processor.composition import Clients, assemble
from whisper_processor.engines.child import ChildTranscriber
from whisper_processor.settings import Settings
from whisper_processor.worker.drain import Drain
from whisper_processor.worker.pulse import Pulse


@dataclass
class Site:
    """Queues, bucket and database for its workers; `close` ends them and deletes the queues."""

    cloud: LocalCloud
    aws: Connection
    models_dir: Path
    work_dir: Path
    queue_url: str
    dlq_url: str
    bucket: str
    workers: list[RunningWorker] = field(default_factory=list)

    def put(self, file: Path | bytes) -> str:
        """Store a recording; returns its key."""
        key = f"audio-files/3/4/{uuid.uuid4()}"
        body = file if isinstance(file, bytes) else file.read_bytes()
        self.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return key

    def send(self, body: str, delay: int = 0) -> None:
        self.aws.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body, DelaySeconds=delay)

    def submit(self, file: Path | bytes, delay: int = 0, **request: Any) -> str:
        """Store a recording and ask for its transcription; returns the job's id."""
        job_id = str(uuid.uuid4())
        self.send(json.dumps({"jobId": job_id, "s3Key": self.put(file), **request}), delay)
        return job_id

    def row(self, job_id: str) -> dict[str, Any]:
        """The job's row, empty when there is none yet."""
        return next(iter(self.rows("SELECT * FROM audio_jobs WHERE id=%s", job_id)), {})

    def transcripts(self, job_id: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM transcripts WHERE job_id=%s", job_id)

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def counts(self, url: str | None = None) -> tuple[int, int, int]:
        """Visible, in flight, delayed."""
        answer = self.aws.sqs.get_queue_attributes(QueueUrl=url or self.queue_url, AttributeNames=["All"])
        found = answer["Attributes"]
        return (
            int(found["ApproximateNumberOfMessages"]),
            int(found["ApproximateNumberOfMessagesNotVisible"]),
            int(found["ApproximateNumberOfMessagesDelayed"]),
        )

    def dead(self) -> dict[str, str]:
        """What lies in the dead-letter queue: each body with its reason."""
        answer = self.aws.sqs.receive_message(
            QueueUrl=self.dlq_url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
        )
        return {m["Body"]: m["MessageAttributes"]["Reason"]["StringValue"] for m in answer.get("Messages", [])}

    def settings(self, **changes: Any) -> Settings:
        defaults: dict[str, Any] = {
            "queue_url": self.queue_url,
            "dlq_url": self.dlq_url,
            "bucket": self.bucket,
            "whisper_models_dir": self.models_dir,
            "poll_wait_seconds": 0,
            "empty_polls": 1,
            "visibility_timeout_seconds": 5,
            "backoff_base_seconds": 1,
            "progress_seconds": 0.3,
            "work_dir": self.work_dir,
            "database_ca": self.cloud.database.ca,
        }
        return Settings(_env_file=None, **defaults | changes)

    def start(
        self,
        transcriber: ChildTranscriber,
        name: str = "worker",
        hold: Callable[[], Hold | None] = lambda: None,
        **changes: Any,
    ) -> RunningWorker:
        worker = RunningWorker(self, self.settings(**changes), transcriber, name, hold)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.drain.request(0)
        for worker in self.workers:
            worker.thread.join(PATIENCE)
        self.aws.sqs.delete_queue(QueueUrl=self.queue_url)
        self.aws.sqs.delete_queue(QueueUrl=self.dlq_url)


class RunningWorker:
    """The worker's loop on a thread, from the moment it is made."""

    def __init__(
        self,
        site: Site,
        settings: Settings,
        transcriber: ChildTranscriber,
        name: str,
        hold: Callable[[], Hold | None],
    ) -> None:
        session = boto3.session.Session("test", "test", region_name=site.cloud.region)

        def client(service: Any) -> Any:
            return session.client(service, endpoint_url=site.cloud.endpoint)

        self.name = name
        self.sqs, self.s3 = client("sqs"), client("s3")
        self.drain, self.pulse = Drain(), Pulse()
        parts = assemble(
            settings,
            Clients(self.sqs, self.s3, site.aws.secrets, client("cloudwatch")),
            transcriber,
            worker_id=name,
            drain=self.drain,
            pulse=self.pulse,
            hold=hold,
        )
        self.jobs = parts.services.jobs
        self.nothing_left: bool | None = None

        def run() -> None:
            self.nothing_left = parts.worker.run()
            parts.services.metrics.close()

        self.thread = threading.Thread(target=run, name=name, daemon=True)
        self.thread.start()

    def ended(self) -> bool:
        """Wait for the loop's end; returns whether it left because nothing was left to do."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the worker's loop goes on"
        assert self.nothing_left is not None, "the worker's loop ended with an error"
        return self.nothing_left


def cut_off(client: Any, operations: set[str], times: int | None = None) -> None:
    """Let the client's next calls of these operations find no network: `times` of them, or all."""
    left = times

    def refuse(model: Any, **_: Any) -> None:
        nonlocal left
        if model.name in operations and (left is None or left > 0):
            left = None if left is None else left - 1
            raise EndpointConnectionError(endpoint_url="cut off by a test")

    client.meta.events.register("before-call", refuse)


def children() -> list[psutil.Process]:
    """The transcriptions' processes: of all that multiprocessing started those that are not its own helpers."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "spawn_main" in " ".join(process.cmdline()) and "resource_tracker" not in " ".join(process.cmdline())
    ]


def only_child() -> psutil.Process:
    (child,) = children()
    return child


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """A process that hangs."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.is_running():
            process.send_signal(signal.SIGCONT)
