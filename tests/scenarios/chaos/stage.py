"""Where the three parts play: an emulator and a database of their own, the foundation stack, and workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pymysql

from contracts.jobs import EngineName, JobStatus
from local.platform.cloud import CREDENTIALS, LocalCloud
from ops.aws.connection import Connection
from ops.infrastructure import deploy, migrate
from ops.observability.status import Queue, read_queue
from ops.settings import REPOSITORY, Cloud, OpsSettings
from whisper_processor import models

Say = Callable[[str], None]

SETTINGS = {
    "POLL_WAIT_SECONDS": "1",
    "EMPTY_POLLS": "1000000",  # the stage says when a worker leaves
    "BACKOFF_BASE_SECONDS": "0.5",
    "BACKOFF_MAX_SECONDS": "4",
    "PROGRESS_SECONDS": "0.3",
    "WHISPER_THREADS": "1",  # several workers share two cores
}
_NOBODY = (
    "http://127.0.0.1:9"  # the discard port: this machine is no EC2 instance, and the worker learns it at once
)


SAY_SECONDS = 10.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
class Letter:
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
class Stage:
    cloud: LocalCloud
    aws: Connection
    root: Path

    @cached_property
    def bucket(self) -> str:
        return self.aws.foundation["BucketName"]

    def worker(self, name: str, module: str, endpoint: str, settings: Mapping[str, str]) -> WorkerProcess:
        """A worker that is not started yet; `module` is run with `python -m`, AWS is at `endpoint`."""
        folder = self.root / name
        folder.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "processor" / "src")]),
            "PYTHONUNBUFFERED": "1",
            **CREDENTIALS,
            "AWS_REGION": self.cloud.region,
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": _NOBODY,
            "DATABASE_CA": str(self.cloud.database.ca),
            "WHISPER_MODELS_DIR": str(self.cloud.models_dir),
            "WORKER_NAME": name,
            "WORK_DIR": str(folder),
            **SETTINGS,
            **settings,
        }
        return WorkerProcess(name, [sys.executable, "-m", module], environment, folder)

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
                    QueueUrl=self.aws.foundation["QueueUrl"],
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
        """Until the queue is empty, `deadline` (monotonic) passes, or the worker dies; its last words then."""
        said = time.monotonic()
        while (code := worker.ended()) is None and time.monotonic() < deadline:
            queue = self.queue()
            if not queue.backlog:
                return None
            if time.monotonic() - said >= SAY_SECONDS:
                said = time.monotonic()
                say(f"{worker.name}: {queue.backlog} messages to go, {queue.dead} dead letters")
            time.sleep(0.5)
        return None if code is None else f"exit code {code}: {worker.last_words()}"

    def take_dead_letters(self) -> list[Letter]:
        """Everything that lies in the dead-letter queue, which is empty afterwards."""
        url = self.aws.foundation["DlqUrl"]
        letters: list[Letter] = []
        while True:
            answer = self.aws.sqs.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60, MessageAttributeNames=["All"]
            )
            messages = answer.get("Messages", [])
            if not messages:
                return letters
            for message in messages:
                attributes = message.get("MessageAttributes", {})
                reason = attributes["Reason"]["StringValue"] if "Reason" in attributes else ""
                letters.append(Letter(message["Body"], reason))
                self.aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@contextmanager
def open_stage(say: Say) -> Iterator[Stage]:
    """Emulator, database and foundation on free ports in a temporary folder; all gone afterwards."""
    models_dir = REPOSITORY / ".local" / "models"
    models.fetch("base", EngineName.FASTER_WHISPER, models_dir, None, say)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        root = Path(folder)
        cloud = LocalCloud(
            root=root / "cloud",
            emulator_python=REPOSITORY / ".local" / "emulator-venv" / "bin" / "python",
            models_dir=models_dir,
            port=free_port(),
            database_port=free_port(),
        )
        try:
            cloud.up(say)
            aws = Connection(
                OpsSettings(
                    _env_file=None,
                    cloud=Cloud.LOCAL,
                    local_port=cloud.port,
                    local_db_port=cloud.database_port,
                    local_root=cloud.root,
                    database_ca=cloud.database.ca,
                )
            )
            deploy.deploy_infra(aws, say)
            migrate.migrate(aws.database())
            yield Stage(cloud, aws, root)
        finally:
            cloud.destroy(say)


@dataclass
class WorkerProcess:
    """A worker and its child, in a session of their own; started again as systemd would after each end."""

    name: str
    argv: list[str]
    environment: dict[str, str]
    folder: Path
    starts: int = 0
    pid: int | None = None
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def _errors(self) -> Path:
        return self.folder / "stderr"

    def start(self) -> None:
        with self.log.open("ab") as out, self._errors.open("ab") as err:
            self._process = subprocess.Popen(
                self.argv,
                env=self.environment,
                cwd=self.folder,  # a developer's .env must not reach it
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.starts += 1

    def ended(self) -> int | None:
        """The exit code once it has ended, else None."""
        return self._process.poll() if self._process else 0

    def child(self) -> psutil.Process | None:
        """The engine's process, None when there is none at the moment."""
        if self._process is None:
            return None
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "multiprocessing.spawn" in " ".join(process.cmdline()):
                        return process
        return None

    def signal(self, number: signal.Signals) -> None:
        """To the whole group: the worker, its child, and any ffmpeg."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> None:
        """Ask the worker to leave."""
        self.signal(signal.SIGCONT)  # a paused one would not hear it
        if self._process is not None:
            self._process.terminate()

    def leave(self, seconds: float) -> None:
        """Ask it to leave; kill what has not left in time."""
        self.terminate()
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.kill()

    def events(self) -> Iterator[dict[str, Any]]:
        """Its log's events; a line that a kill cut short is left out."""
        if not self.log.exists():
            return
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict):
                    yield fields

    def last_words(self) -> str:
        text = self._errors.read_text(errors="replace") if self._errors.exists() else ""
        return " | ".join(text.strip().splitlines()[-3:])
