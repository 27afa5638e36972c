"""Where the deploys are rehearsed: a private cloud with the real appliance on it, and releases to deploy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts.jobs import JobStatus
from contracts.keys import Owner
from contracts.metrics import NAMESPACE, UPDATE_FAILED
from local.machines import MachineKind
from local.machines.container import Container
from local.machines.namespaces import PREFIX
from local.platform.cloud import LocalCloud
from ops.aws import metrics
from ops.aws.connection import Connection
from ops.capacity import appliance, launch
from ops.infrastructure import deploy, migrate
from ops.lessons import lesson
from ops.releases import rollout, store
from ops.releases.archive import FOLDER, BuiltRelease
from ops.releases.settings import write_settings
from ops.releases.wheelhouse import build_wheelhouse
from ops.settings import REPOSITORY, OpsSettings
from testbed.cloud import Say, command_environment, private_cloud, quiet, settings_of
from testbed.media import SAMPLE, ffmpeg
from testbed.waiting import wait_until
from tests.scenarios.deploys.variants import Variants

_OWNER = Owner(school_id=3, teacher_id=4)
# A lesson is given back at once instead of finished: so it is certain that another release takes it up.
SETTINGS = {
    "POLL_WAIT_SECONDS": "1",
    "PROGRESS_SECONDS": "0.5",
    "BACKOFF_BASE_SECONDS": "1",
    "DRAIN_SECONDS": "1",
}
_HOLD = timedelta(hours=1)
_WAIT_SECONDS = 480.0
_REPEATS = 8


@dataclass
class Stage:
    """A private cloud, its appliance, and what the cases share."""

    cloud: LocalCloud
    aws: Connection
    variants: Variants
    say: Say
    short: Path
    long: Path

    def __post_init__(self) -> None:
        self.told: list[str] = []

    def deploy(self, built: BuiltRelease) -> list[str]:
        """`make deploy-processor` with this release; returns what it said."""
        self.told = []
        rollout.deploy_processor(self.aws, lambda: built, self._tell)
        return self.told

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.say(f"  {text}")

    def start(self) -> None:
        appliance.start(self.aws, _HOLD, quiet)

    def stop(self) -> None:
        appliance.stop(self.aws, _HOLD, quiet)

    def submit(self, file: Path) -> str:
        return lesson.submit(self.aws, file, _OWNER, {})

    def busy_until(self, over: Callable[[], bool]) -> list[str]:
        """Keep the worker at a lesson until `over`; the ids of all of them, the last one being under way."""
        jobs = [self.submit(self.long)]
        deadline = time.monotonic() + _WAIT_SECONDS
        while not over():
            assert time.monotonic() < deadline, f"not within {_WAIT_SECONDS:.0f} s"
            if lesson.find_job(self.aws, jobs[-1]).status is JobStatus.COMPLETED:
                jobs.append(self.submit(self.long))
            time.sleep(0.2)
        return jobs

    def done_by(self, job_id: str) -> str:
        """Wait for the lesson's end, which must be one transcript; returns the release that wrote it."""
        job = lesson.follow(self.aws, job_id, _WAIT_SECONDS)
        assert job.status is JobStatus.COMPLETED, f"the lesson is {job.status}: {job.error_message}"
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) AS n FROM transcripts WHERE job_id=%s", (job_id,))
            row = cursor.fetchone()
        assert row is not None
        assert row["n"] == 1, f"the lesson has {row['n']} transcripts"
        return wait_until("the log names its release", lambda: self._author(job_id), _WAIT_SECONDS)

    def _author(self, job_id: str) -> str | None:
        """From the processor's log, in which each worker names its release when it starts."""
        log = self.folder / "processor.log"
        release: str | None = None
        for line in log.read_text(errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "worker_started":
                release = event["version"]
            if event.get("event") == "job_completed" and event.get("job_id") == job_id:
                return release
        return None

    @property
    def instance_id(self) -> str:
        return self.aws.instance()["InstanceId"]

    @property
    def folder(self) -> Path:
        return self.cloud.root / "instances" / self.instance_id

    @property
    def home(self) -> Path:
        """The machine's /opt/whisper, from outside."""
        return self.folder / "root" / "opt" / "whisper"

    def link(self, name: str) -> str | None:
        """Where a symbolic link in the machine's home points."""
        path = self.home / name
        return path.readlink().name if path.is_symlink() else None

    def cut_power(self) -> None:
        name = f"{PREFIX}{self.instance_id[2:14]}"
        Container(name, self.folder / "root", self.folder).cut_power()

    def wanted(self) -> str | None:
        wanted = store.read_wanted(self.aws)
        return wanted.release.name if wanted else None

    def failures_told(self) -> float:
        """How many failed updates the machine has reported to CloudWatch."""
        now = datetime.now(UTC)
        minute = timedelta(minutes=1)
        metric = metrics.Metric(NAMESPACE, UPDATE_FAILED, {})
        points = metrics.read(self.aws, metric, "Sum", start=now - 60 * minute, end=now + minute, period=minute)
        return sum(point.value for point in points)

    def verb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As an operator runs it."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=REPOSITORY,
            env=os.environ | command_environment(self.aws.settings),
            capture_output=True,
            text=True,
            check=False,
        )


@contextmanager
def open_stage(say: Say) -> Iterator[Stage]:
    """With a running appliance under a hold. Everything is stopped and deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="whisper-deploy-") as scratch:
        folder, settings = Path(scratch), OpsSettings()
        long = folder / "long.flac"
        ffmpeg("-stream_loop", str(_REPEATS - 1), "-i", str(SAMPLE), str(long))
        say("a cloud of its own, with a real appliance")
        with private_cloud(folder / "cloud", settings.models_dir, machine=MachineKind.NSPAWN) as cloud:
            aws = Connection(settings_of(cloud, settings.model_copy(update={"image_id": ""})))
            deploy.deploy_infra(aws, say)
            migrate.migrate(aws.database())
            write_settings(aws, SETTINGS, quiet)
            launch.launch(aws, say)
            appliance.hold(aws, _HOLD, quiet)
            appliance.wait_for(aws, "running", 120)
            variants = Variants(build_wheelhouse(FOLDER, say), folder / "variants")
            yield Stage(cloud, aws, variants, say, SAMPLE, long)


@dataclass
class Background:
    errors: list[Exception]


@contextmanager
def in_background(action: Callable[[], object]) -> Iterator[Background]:
    """Run it beside the block, and wait for its end. What it raises is kept."""
    running = Background([])

    def run() -> None:
        try:
            action()
        except Exception as error:
            running.errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield running
    finally:
        thread.join()
