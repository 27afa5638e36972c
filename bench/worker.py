"""The worker itself, against an emulator and a database of its own: from the message to the row."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
from local.platform.cloud import CREDENTIALS, LocalCloud
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.infrastructure import deploy, migrate
from ops.settings import REPOSITORY, Cloud, OpsSettings

Say = Callable[[str], None]
_OWNER = Owner(school_id=1, teacher_id=1)
_START_SECONDS = 60.0
_LEAVE_SECONDS = 60.0
_NOBODY = "http://127.0.0.1:9"  # no instance metadata: this machine is none, and the worker learns it at once


@dataclass(frozen=True)
class Site:
    """A cloud with the foundation deployed, and no appliance."""

    cloud: LocalCloud
    aws: Connection
    root: Path

    def put(self, path: Path, job_id: str) -> str:
        """Upload a recording; returns its key."""
        key = audio_key(_OWNER, job_id, path.name)
        self.aws.s3.upload_file(str(path), self.aws.foundation["BucketName"], key)
        return key

    def send(self, job_id: str, key: str) -> None:
        body = json.dumps({"jobId": job_id, "s3Key": key})
        self.aws.sqs.send_message(QueueUrl=self.aws.foundation["QueueUrl"], MessageBody=body)

    def transcript(self, job_id: str) -> str:
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT transcript_text FROM transcripts WHERE job_id=%s", (job_id,))
            row = cursor.fetchone()
        if row is None:
            raise OpsError(f"job {job_id} has no transcript")
        return str(row["transcript_text"])


@contextmanager
def open_site(models_dir: Path, say: Say) -> Iterator[Site]:
    """On free ports, in a temporary folder; all gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        root = Path(place)
        cloud = LocalCloud(
            root=root / "cloud",
            emulator_python=REPOSITORY / ".local" / "emulator-venv" / "bin" / "python",
            models_dir=models_dir,
            port=_free_port(),
            database_port=_free_port(),
        )
        try:
            say("a cloud of its own for the worker: emulator, database, foundation stack")
            cloud.up(_quiet)
            settings = OpsSettings(
                _env_file=None,
                cloud=Cloud.LOCAL,
                local_port=cloud.port,
                local_db_port=cloud.database_port,
                local_root=cloud.root,
            )
            aws = Connection(settings)
            deploy.deploy_infra(aws, _quiet)
            migrate.migrate(aws.database())
            yield Site(cloud, aws, root)
        finally:
            cloud.destroy(_quiet)


class WorkerProcess:
    """The appliance's worker with its default settings, as a process that was started just now."""

    def __init__(self, site: Site, contender: Contender) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=site.root, prefix="worker-"))
        settings = {"beam": "WHISPER_BEAM_SIZE", "batch": "WHISPER_BATCH_SIZE"}
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PYTHONPATH": str(REPOSITORY / "processor" / "src"),
            "PYTHONUNBUFFERED": "1",
            **CREDENTIALS,
            "AWS_REGION": site.cloud.region,
            "AWS_ENDPOINT_URL": site.cloud.endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": _NOBODY,
            "DATABASE_CA": str(site.cloud.database.ca),
            "WHISPER_MODELS_DIR": str(site.cloud.models_dir),
            "WHISPER_ENGINE": str(contender.engine),
            "WORK_DIR": str(self.folder),
            "EMPTY_POLLS": "1000000",  # the measurement says when it leaves
            **{settings[key]: value for key, value in contender.settings.items() if key in settings},
            **contender.environment(),
        }
        self._log = self.folder / "log"
        self.started_at = time.time()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "whisper_processor"],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.root = psutil.Process(self._process.pid)

    def events(self, name: str) -> list[dict[str, Any]]:
        found = []
        for line in self._log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict) and fields.get("event") == name:
                    found.append(fields)
        return found

    def wait_for(self, name: str, count: int, seconds: float) -> dict[str, Any]:
        """The `count`-th event of that name. Raises OpsError when the worker ends, fails a job, or is late."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.events(name)
            if len(found) >= count:
                return found[count - 1]
            trouble = [*self.events("job_failed"), *self.events("job_retried")]
            if trouble or self._process.poll() is not None or time.monotonic() > deadline:
                words = trouble[0].get("reason") if trouble else " | ".join(self._last_words())
                raise OpsError(f"the worker did not come to {name}: {words or 'no word of it'}")
            time.sleep(0.1)

    def leave(self) -> None:
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVE_SECONDS)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> list[str]:
        return self._log.read_text(errors="replace").strip().splitlines()[-2:]


def moment(event: dict[str, Any]) -> float:
    """When an event was logged, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


@contextmanager
def polling(site: Site, contender: Contender) -> Iterator[tuple[WorkerProcess, float]]:
    """A worker that has begun to poll, and how many seconds after its start that was."""
    worker = WorkerProcess(site, contender)
    try:
        polled = worker.wait_for("polling_started", 1, _START_SECONDS)
        yield worker, moment(polled) - worker.started_at
    finally:
        worker.leave()


def measure(site: Site, contender: Contender, recording: Recording, repeat: int) -> Run:
    """One lesson through a worker that has done none before: its child and its model are yet to start."""
    job_id = str(uuid.uuid4())
    key = site.put(recording.path, job_id)
    with polling(site, contender) as (worker, first_poll):
        watch = processes.Watch(worker.root.pid)
        cpu, sent = processes.cpu_seconds(worker.root), time.time()
        try:
            site.send(job_id, key)
            done = worker.wait_for("job_completed", 1, 120 + 3 * recording.seconds)
            cpu = processes.cpu_seconds(worker.root) - cpu
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
            now = moment(worker.wait_for("job_completed", number, 120 + 3 * recording.seconds))
            sizes.append(processes.resident(worker.root))
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _quiet(_text: str) -> None:
    """What the cloud says of its start is none of a measurement's lines."""
