"""The worker itself, against an emulator and a database of its own: from the message to the row."""

from __future__ import annotations

import json
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from bench import processes
from bench.accuracy import word_error_rate
from bench.contenders import Contender
from bench.recordings import Recording
from bench.results import Jobs, Run
from contracts.keys import Owner, audio_key
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.errors import OpsError
from testbed.cloud import Bed, open_bed
from testbed.worker_process import WorkerProcess, worker_environment

Say = Callable[[str], None]
_OWNER = Owner(school_id=1, teacher_id=1)
_START_SECONDS = 60.0
_LEAVE_SECONDS = 60.0


@dataclass(frozen=True)
class Site:
    """A private cloud without an appliance, for the worker to be measured against."""

    bed: Bed

    @property
    def cloud(self) -> LocalCloud:
        return self.bed.cloud

    @property
    def aws(self) -> Connection:
        return self.bed.aws

    def put(self, path: Path, job_id: str) -> str:
        """Upload a recording; returns its key."""
        key = audio_key(_OWNER, job_id, path.name)
        self.aws.s3.upload_file(str(path), self.bed.bucket, key)
        return key

    def send(self, job_id: str, key: str) -> None:
        body = json.dumps({"jobId": job_id, "s3Key": key})
        self.aws.sqs.send_message(QueueUrl=self.bed.queue_url, MessageBody=body)

    def transcript(self, job_id: str) -> str:
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT transcript_text FROM transcripts WHERE job_id=%s", (job_id,))
            row = cursor.fetchone()
        if row is None:
            raise OpsError(f"job {job_id} has no transcript")
        return str(row["transcript_text"])

    def worker(self, contender: Contender) -> WorkerProcess:
        """The appliance's worker with its default settings, not started yet."""
        folder = Path(tempfile.mkdtemp(dir=self.bed.root, prefix="worker-"))
        settings = {"beam": "WHISPER_BEAM_SIZE", "batch": "WHISPER_BATCH_SIZE"}
        environment = {
            **worker_environment(self.cloud, folder),
            "WHISPER_ENGINE": str(contender.engine),
            **{settings[key]: value for key, value in contender.settings.items() if key in settings},
            **contender.environment(),
        }
        return WorkerProcess(contender.name, folder, environment)


@contextmanager
def open_site(models_dir: Path, say: Say) -> Iterator[Site]:
    """On free ports, in a temporary folder. Everything is stopped and deleted at the end."""
    say("a cloud of its own for the worker: emulator, database, foundation stack")
    with open_bed("bench-", models_dir) as bed:
        yield Site(bed)


def wait_for(worker: WorkerProcess, name: str, count: int, seconds: float) -> dict[str, Any]:
    """The `count`-th event of that name. Raises OpsError when the worker ends, fails a job, or is late."""
    deadline = time.monotonic() + seconds
    while True:
        found = list(worker.events(name))
        if len(found) >= count:
            return found[count - 1]
        trouble = [*worker.events("job_failed"), *worker.events("job_retried")]
        if trouble or worker.exit_code() is not None or time.monotonic() > deadline:
            words = trouble[0].get("reason") if trouble else worker.last_words()
            raise OpsError(f"the worker did not come to {name}: {words or 'it wrote nothing'}")
        time.sleep(0.1)


def moment(event: dict[str, Any]) -> float:
    """When an event was logged, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


@contextmanager
def polling(site: Site, contender: Contender) -> Iterator[tuple[WorkerProcess, float]]:
    """A worker that has begun to poll, and how many seconds after its start that was."""
    worker = site.worker(contender)
    started = time.time()
    try:
        worker.start()
        polled = wait_for(worker, "polling_started", 1, _START_SECONDS)
        yield worker, moment(polled) - started
    finally:
        worker.leave(_LEAVE_SECONDS)


def measure(site: Site, contender: Contender, recording: Recording, repeat: int) -> Run:
    """One lesson through a worker that has done none before: its child and its model are yet to start."""
    job_id = str(uuid.uuid4())
    key = site.put(recording.path, job_id)
    with polling(site, contender) as (worker, first_poll):
        root = psutil.Process(worker.pid)
        watch = processes.Watch(root.pid)
        cpu, sent = processes.cpu_seconds(root), time.time()
        try:
            site.send(job_id, key)
            done = wait_for(worker, "job_completed", 1, 120 + 3 * recording.seconds)
            cpu = processes.cpu_seconds(root) - cpu
        finally:
            peak = watch.end()
    text = site.transcript(job_id)
    return Run(
        recording=recording.name,
        contender=contender.name,
        repeat=repeat,
        audio_seconds=recording.seconds,
        wall_seconds=moment(done) - sent,
        cpu_seconds=cpu,
        peak_rss_bytes=peak,
        load_seconds=done["model_load_seconds"],
        first_result_seconds=None,
        first_poll_seconds=first_poll,
        word_error_rate=None if recording.reference is None else word_error_rate(recording.reference, text),
        characters=len(text.strip()),
        invented=not recording.speech,
    )


def measure_jobs(site: Site, contender: Contender, recording: Recording, count: int, say: Say) -> Jobs:
    """The same short lesson `count` times through one worker."""
    jobs = [str(uuid.uuid4()) for _ in range(count)]
    keys = [site.put(recording.path, job_id) for job_id in jobs]
    sizes, seconds = [], []
    with polling(site, contender) as (worker, _):
        before = time.time()
        for number, (job_id, key) in enumerate(zip(jobs, keys, strict=True), 1):
            site.send(job_id, key)
            now = moment(wait_for(worker, "job_completed", number, 120 + 3 * recording.seconds))
            sizes.append(processes.resident(psutil.Process(worker.pid)))
            seconds.append(now - before)
            before = time.time()
            if number % 10 == 0:
                say(f"{contender.name}: {number} of {count} jobs, {sizes[-1] / 1e6:.0f} MB resident")
    return Jobs(
        contender=contender.name,
        recording=recording.name,
        resident_bytes=tuple(sizes),
        seconds=tuple(seconds),
    )
