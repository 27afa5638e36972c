"""Where the three parts play: an emulator and a database of their own, the foundation stack, and workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import pymysql

from contracts.jobs import EngineName, JobStatus
from ops.observability.queues import Queue, read_queue
from testbed.cloud import MODELS, Bed, Say, open_bed
from testbed.worker_process import WorkerProcess, worker_environment
from whisper_processor import models

SETTINGS = {
    "POLL_WAIT_SECONDS": "1",
    "BACKOFF_BASE_SECONDS": "0.5",
    "BACKOFF_MAX_SECONDS": "4",
    "PROGRESS_SECONDS": "0.3",
    "WHISPER_THREADS": "1",  # several workers share two cores
}
SAY_SECONDS = 10.0


@dataclass(frozen=True)
class Row:
    """One line of `audio_jobs`."""

    id: str
    status: JobStatus
    error: str
    attempts: int
    duration_seconds: int | None

    @property
    def ended(self) -> bool:
        return self.status in {JobStatus.COMPLETED, JobStatus.FAILED}


@dataclass(frozen=True)
class DeadLetter:
    """One message of the dead-letter queue."""

    body: str
    reason: str
    """Empty when SQS itself moved it there."""

    @property
    def job_id(self) -> str | None:
        """Of a message the parts sent themselves; None for any other."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return None
        return document.get("jobId") if isinstance(document, dict) else None


@dataclass(frozen=True)
class Stage(Bed):
    def worker(
        self,
        name: str,
        settings: Mapping[str, str],
        *,
        endpoint: str | None = None,
        module: str = "whisper_processor",
    ) -> WorkerProcess:
        """A worker that is not started yet. `endpoint` is that of a proxy before the emulator."""
        folder = self.root / name
        folder.mkdir()
        environment = {
            **worker_environment(self.cloud, folder, endpoint),
            "WORKER_NAME": name,
            **SETTINGS,
            **settings,
        }
        return WorkerProcess(name, folder, environment, module)

    def put(self, key: str, body: bytes) -> None:
        self.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def announce(self, jobs: Mapping[str, str]) -> None:
        """What the backend does before it sends a message: a row for each job id and its key."""
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO audio_jobs (id, teacher_id, school_id, status, s3_key) VALUES (%s, 2, 1, %s, %s)",
                [(job_id, JobStatus.QUEUED, key) for job_id, key in jobs.items()],
            )

    def send(self, bodies: list[str]) -> None:
        """In the order given, in as few calls as SQS's limits of 10 messages and 1 MiB a call allow."""
        batch: list[str] = []
        for body in [*bodies, ""]:
            full = len(batch) == 10 or sum(len(b.encode()) for b in [*batch, body]) > 1_000_000
            if batch and (full or not body):
                entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(batch)]
                answer = self.aws.sqs.send_message_batch(
                    QueueUrl=self.queue_url,
                    Entries=entries,  # type: ignore[arg-type]
                )
                if failed := answer.get("Failed"):
                    raise ValueError(f"the queue refused a message of the plan: {failed[0]}")
                batch = []
            batch.append(body)

    def rows(self) -> dict[str, Row]:
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT id, status, error_message, attempts, duration_seconds FROM audio_jobs")
            return {
                r["id"]: Row(
                    r["id"],
                    JobStatus(r["status"]),
                    r["error_message"] or "",
                    r["attempts"] or 0,
                    r["duration_seconds"],
                )
                for r in cursor.fetchall()
            }

    def rows_if_possible(self) -> dict[str, Row] | None:
        """None while the database is away."""
        try:
            return self.rows()
        except pymysql.MySQLError:
            return None

    def transcripts(self) -> list[tuple[str, str]]:
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT job_id, transcript_text FROM transcripts")
            return [(row["job_id"], row["transcript_text"]) for row in cursor.fetchall()]

    def queue(self) -> Queue:
        return read_queue(self.aws)

    def watch(self, worker: WorkerProcess, deadline: float, say: Say) -> str | None:
        """Until the queue is empty, `deadline` (monotonic) passes, or the worker dies: its last output then."""
        said = time.monotonic()
        while (code := worker.exit_code()) is None and time.monotonic() < deadline:
            queue = self.queue()
            if not queue.backlog:
                return None
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                say(f"{worker.name}: {queue.backlog} messages to go, {queue.dead} in the dead-letter queue")
            time.sleep(0.5)
        return None if code is None else f"exit code {code}: {worker.last_words()}"

    def take_dead_letters(self) -> list[DeadLetter]:
        """Receive and delete everything in the dead-letter queue."""
        url = self.aws.foundation["DlqUrl"]
        dead_letters: list[DeadLetter] = []
        while True:
            answer = self.aws.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60, MessageAttributeNames=["All"]
            )
            messages = answer.get("Messages", [])
            if not messages:
                return dead_letters
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                reason = attributes["Reason"]["StringValue"] if "Reason" in attributes else ""
                dead_letters.append(DeadLetter(message["Body"], reason))
                self.aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@contextmanager
def open_stage(say: Say) -> Iterator[Stage]:
    """Emulator, database and foundation on free ports, in a temporary folder. Everything is removed at the end."""
    models.fetch("base", EngineName.FASTER_WHISPER, MODELS, None, say)
    with open_bed("chaos-", say=say) as bed:
        yield Stage(bed.root, bed.cloud, bed.aws)
