"""`make rehearse-deploy`: releases and settings on their way to a real appliance, with what can go wrong on it.

A cloud of its own, booted copies of the image, releases made by the very builder from copies of the sources.
Each case is an operator's verb and a lesson: the lesson must be done once, and by the right release.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from contracts.jobs import JobStatus
from contracts.keys import DEPLOY_LOCK_KEY, Owner
from contracts.metrics import NAMESPACE, UPDATE_FAILED
from local.errors import LocalError
from local.images.current import current_baked
from local.machines import MachineKind
from local.machines.container import Container, obstacle
from local.machines.namespaces import PREFIX
from local.platform.cloud import LocalCloud
from ops.aws import metrics
from ops.aws.connection import Connection
from ops.capacity import appliance, launch
from ops.errors import OpsError
from ops.images.ingredients import SAMPLE
from ops.infrastructure import deploy, migrate
from ops.lessons import lesson
from ops.releases import rollout, store
from ops.releases.archive import FOLDER, BuiltRelease, build_release
from ops.releases.lock import deploying
from ops.releases.settings import stored_settings, write_settings
from ops.releases.wheelhouse import PROCESSOR, Artefact, build_wheelhouse, sha256
from ops.settings import REPOSITORY, OpsSettings

Say = Callable[[str], None]
T = TypeVar("T")
_OWNER = Owner(school_id=3, teacher_id=4)
# A lesson is given back at once instead of finished: so it is certain that another release takes it up.
_SETTINGS = {
    "POLL_WAIT_SECONDS": "1",
    "PROGRESS_SECONDS": "0.5",
    "BACKOFF_BASE_SECONDS": "1",
    "DRAIN_SECONDS": "1",
}
_BROKEN = '\n\ndef has_speech(samples: Samples) -> bool:\n    raise RuntimeError("broken on purpose")\n'
_HOLD = timedelta(hours=1)
_WAIT_SECONDS = 480.0
_REPEATS = 8


class CaseFailed(Exception):
    """What was seen, and what should have been."""


@dataclass(frozen=True)
class Outcome:
    case: str
    passed: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class Variants:
    """Releases of the worker's sources with other version numbers, and one that cannot transcribe."""

    wheelhouse: Artefact
    folder: Path

    def other_wheelhouse(self) -> Artefact:
        """The same packages in other bytes: to a machine it is a runtime it does not have."""
        path = self.folder / "other.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.wheelhouse.path) as source, tarfile.open(path, "w") as target:
            for member in source:
                content = source.extractfile(member)
                if member.name == "requirements.txt" and content is not None:
                    text = content.read() + b"# packed anew\n"
                    member.size, content = len(text), io.BytesIO(text)
                target.addfile(member, content)
        return Artefact(path, sha256(path))

    def build(self, version: str, *, broken: bool = False, wheelhouse: Artefact | None = None) -> BuiltRelease:
        source = self.folder / version
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(PROCESSOR, source, ignore=ignored)
        project = source / "pyproject.toml"
        text, changed = re.subn(r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text())
        if changed != 1:
            raise LocalError("processor/pyproject.toml has not just one version")
        project.write_text(text)
        if broken:
            speech = source / "src" / "whisper_processor" / "speech.py"
            speech.write_text(speech.read_text() + _BROKEN)
        return build_release(wheelhouse or self.wheelhouse, source=source, folder=self.folder / "built")


@dataclass
class Stage:
    """The cloud of the rehearsal, its appliance, and what the cases share."""

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

    def refused(self, action: Callable[[], object], words: str) -> str:
        try:
            action()
        except OpsError as error:
            expect(words in str(error), f"it ended with {error!s}, not with {words!r}")
            return str(error)
        raise CaseFailed(f"it went through, and should have been refused with {words!r}")

    def _tell(self, text: str) -> None:
        self.told.append(text)
        self.say(f"  {text}")

    def start(self) -> None:
        appliance.start(self.aws, _HOLD, lambda _text: None)

    def stop(self) -> None:
        appliance.stop(self.aws, _HOLD, lambda _text: None)

    def submit(self, file: Path) -> str:
        return lesson.submit(self.aws, file, _OWNER, {})

    def busy_until(self, over: Callable[[], bool]) -> list[str]:
        """Keep a lesson in the worker's hands until `over`; all of their ids, the one then in hand the last."""
        jobs = [self.submit(self.long)]
        deadline = time.monotonic() + _WAIT_SECONDS
        while not over():
            if time.monotonic() > deadline:
                raise CaseFailed(f"not within {_WAIT_SECONDS:.0f} s")
            if lesson.find_job(self.aws, jobs[-1]).status is JobStatus.COMPLETED:
                jobs.append(self.submit(self.long))
            time.sleep(0.2)
        return jobs

    def done_by(self, job_id: str) -> str:
        """Wait for the lesson's end; the release that did it. It must have been done, and once."""
        for _ in lesson.follow(self.aws, job_id, _WAIT_SECONDS):
            pass
        job = lesson.find_job(self.aws, job_id)
        expect(job.status is JobStatus.COMPLETED, f"the lesson is {job.status}: {job.error_message}")
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) AS n FROM transcripts WHERE job_id=%s", (job_id,))
            row = cursor.fetchone()
        expect(row is not None and row["n"] == 1, f"the lesson has {row and row['n']} transcripts")
        return wait_until("the log tells who did it", lambda: self._author(job_id))

    def _author(self, job_id: str) -> str | None:
        """From the processor's log, in which each worker says at its start what it is."""
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
        """What a link of the machine names."""
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


def expect(true: bool, otherwise: str) -> None:
    if not true:
        raise CaseFailed(otherwise)


def wait_until(what: str, true: Callable[[], T | None], seconds: float = _WAIT_SECONDS) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.1)
    raise CaseFailed(f"not within {seconds:.0f} s: {what}")


# The cases, in this order: each begins with an appliance that runs and has nothing to do.


def while_lessons_are_transcribed(stage: Stage) -> str:
    built = stage.variants.build("9.0.1")
    with _in_background(lambda: stage.deploy(built)) as deploying_it:
        *earlier, in_hand = stage.busy_until(lambda: stage.link("current") == built.release.name)
    expect(not deploying_it.errors, f"the deploy failed: {deploying_it.errors}")
    for job in earlier:
        stage.done_by(job)
    author = stage.done_by(in_hand)
    expect(author == built.release.name, f"the lesson in hand was done by {author}")
    return f"{len(earlier)} done before; the one in hand given back, done once, by the new release"


def two_deploys_at_once(stage: Stage) -> str:
    built = stage.variants.build("9.0.2")
    other = Connection(stage.aws.settings)
    bucket = other.foundation["BucketName"]
    with _in_background(lambda: stage.deploy(built)) as first:
        wait_until("the first one has the lock", lambda: store.size_of(other, bucket, DEPLOY_LOCK_KEY))
        second = _verb(stage, "deploy-processor")
    expect(not first.errors, f"the first one failed: {first.errors}")
    lines = [line for line in second.stderr.splitlines() if line.strip()]
    expect(second.returncode == 1 and len(lines) == 1, f"the second one: {lines}, {second.returncode}")
    expect("runs deploy-processor since" in lines[0], f"the second one said {lines[0]}")
    expect(stage.link("current") == built.release.name, f"{stage.link('current')} runs")
    return "the second is refused in one line, the first goes through"


def while_stopped(stage: Stage) -> str:
    stage.stop()
    built = stage.variants.build("9.0.3")
    told = stage.deploy(built)
    expect(any("at its next boot" in line for line in told), f"the deploy said {told}")
    job = stage.submit(stage.short)
    stage.start()
    author = stage.done_by(job)
    expect(author == built.release.name, f"the lesson was done by {author}")
    return "installed at the boot, the lesson done by the new release"


def corrupted_archive(stage: Stage) -> str:
    before = stage.wanted()
    built = stage.variants.build("9.0.4")
    release = built.release

    def deploy_what_was_changed() -> None:
        with deploying(stage.aws, "deploy-processor", stage.say) as lock:
            store.publish(stage.aws, built, stage.say)
            body = bytearray(built.archive.path.read_bytes())
            body[len(body) // 2] ^= 1
            bucket = stage.aws.foundation["BucketName"]
            stage.aws.s3.put_object(Bucket=bucket, Key=release.archive.key, Body=bytes(body))
            rollout.bring(stage.aws, release, lock, stage.say)

    stage.refused(deploy_what_was_changed, "has sha256")
    author = stage.done_by(stage.submit(stage.short))
    expect(author == before == stage.wanted(), f"the lesson was done by {author}, {stage.wanted()} is wanted")
    return "one bit is enough to be refused; the old release works on"


def broken_release(stage: Stage) -> str:
    before = stage.wanted()
    built = stage.variants.build("9.0.5", broken=True)
    with _in_background(lambda: stage.deploy(built)) as deploying_it:
        jobs = stage.busy_until(lambda: stage.link("current") == built.release.name)
    expect("its check failed" in str(deploying_it.errors), f"it ended with {deploying_it.errors}")
    expect(stage.link("current") == before == stage.wanted(), f"{stage.link('current')} runs")
    authors = {stage.done_by(job) for job in jobs}
    expect(authors == {before}, f"lessons were done by {authors}")
    return "fails its check, rolled back; the lesson in hand done by the old one"


def broken_release_at_boot(stage: Stage) -> str:
    before, reported = stage.wanted(), stage.failures_told()
    stage.stop()
    built = stage.variants.build("9.0.6", broken=True)
    stage.deploy(built)
    job = stage.submit(stage.short)
    stage.start()
    author = stage.done_by(job)
    expect(author == before, f"the lesson was done by {author}")
    expect(stage.failures_told() > reported, "the machine did not report it: no alarm would come of it")
    return "the boot falls back and reports it; the lesson done by the old one"


def power_cut_in_the_flip(stage: Stage) -> str:
    built = stage.variants.build("9.0.7")
    with _in_background(lambda: stage.deploy(built)) as deploying_it:
        jobs = stage.busy_until(lambda: stage.link("current") == built.release.name)
        expect(stage.link("proven") != built.release.name, "the check was over already")
        stage.cut_power()
    expect(not deploying_it.errors, f"the deploy failed: {deploying_it.errors}")
    expect(any("at its next boot" in line for line in stage.told), f"the deploy said {stage.told}")
    appliance.wait_for(stage.aws, "stopped", 120)
    stage.start()
    for job in jobs[:-1]:
        stage.done_by(job)
    author = stage.done_by(jobs[-1])
    expect(author == built.release.name, f"the lesson in hand was done by {author}")
    expect(stage.link("proven") == built.release.name, f"{stage.link('proven')} is trusted")
    return "killed between flip and check; the next boot goes back, and on with it"


def ssm_not_ready(stage: Stage) -> str:
    built = stage.variants.build("9.0.8")
    stage.stop()
    stage.aws.ec2.start_instances(InstanceIds=[stage.instance_id])
    told = stage.deploy(built)
    expect(any("waiting until" in line for line in told), f"nothing was waited for: {told}")
    expect(stage.link("current") == built.release.name, f"{stage.link('current')} runs")
    author = stage.done_by(stage.submit(stage.short))
    expect(author == built.release.name, f"the lesson was done by {author}")
    return "waited for, then installed"


def roll_back(stage: Stage) -> str:
    wanted = store.read_wanted(stage.aws)
    before = wanted.previous if wanted else None
    rollout.rollback(stage.aws, "", stage.say)
    author = stage.done_by(stage.submit(stage.short))
    expect(author == before == stage.link("current"), f"the lesson was done by {author}, not {before}")
    return "the release before runs again"


def settings_it_cannot_run_with(stage: Stage) -> str:
    bad = _SETTINGS | {"WHISPER_MODEL": "large-v3"}
    stage.refused(lambda: rollout.deploy_config(stage.aws, bad, stage.say), "the settings from before are back")
    expect(stored_settings(stage.aws) == _SETTINGS, "the old settings are not back")
    stage.done_by(stage.submit(stage.short))
    return "put back, and the worker runs with the old ones"


def other_packages(stage: Stage) -> str:
    wheelhouse = stage.variants.other_wheelhouse()
    built = stage.variants.build("9.0.9", wheelhouse=wheelhouse)
    stage.deploy(built)
    author = stage.done_by(stage.submit(stage.short))
    expect(author == built.release.name, f"the lesson was done by {author}")
    runtime = (stage.home / "releases" / built.release.name / "runtime").readlink().name
    expect(runtime == wheelhouse.sha256[:12], f"it stands on {runtime}")
    return "fetched by its sha256 and made beside the other runtime"


Case = Callable[[Stage], str]
CASES: Sequence[tuple[str, Case]] = (
    ("upgrade while lessons are transcribed", while_lessons_are_transcribed),
    ("two deploys at once", two_deploys_at_once),
    ("upgrade while stopped", while_stopped),
    ("corrupted artefact", corrupted_archive),
    ("broken release", broken_release),
    ("broken release at a boot", broken_release_at_boot),
    ("power cut in the middle of the flip", power_cut_in_the_flip),
    ("SSM not ready yet", ssm_not_ready),
    ("rollback", roll_back),
    ("settings the worker cannot run with", settings_it_cannot_run_with),
)
LONG_CASES: Sequence[tuple[str, Case]] = (("a release on other packages", other_packages),)
"""Left out of `make test`: some minutes of installing the same packages once more."""


def rehearse_deploy(
    cloud: LocalCloud, settings: OpsSettings, say: Say, only: str = "", *, long: bool = True
) -> list[Outcome]:
    """Run the cases, all or those with `only` in their names; how each ended. Raises LocalError where none can."""
    reason = obstacle()
    if reason:
        raise LocalError(f"no appliance can boot here: {reason}")
    if current_baked() is None:
        raise LocalError("there is no image to boot: run `make image`")
    cases = [*CASES, *(LONG_CASES if long else ())]
    chosen = [(name, case) for name, case in cases if only in name]
    if not chosen:
        raise LocalError(f"no case is called so: {only}; there are {', '.join(name for name, _ in cases)}")
    with (
        tempfile.TemporaryDirectory(prefix="whisper-deploy-") as scratch,
        _staged(cloud, settings, Path(scratch), say) as stage,
    ):
        return [_play(stage, name, case) for name, case in chosen]


def _play(stage: Stage, name: str, case: Callable[[Stage], str]) -> Outcome:
    stage.say(name)
    started = time.monotonic()
    try:
        if stage.aws.instance()["State"]["Name"] != "running":
            stage.start()
        detail, passed = case(stage), True
    except Exception as error:  # one case that breaks is not to hide how the others end
        detail, passed = (
            f"{error}" if isinstance(error, CaseFailed | OpsError | LocalError) else repr(error),
            False,
        )
    seconds = time.monotonic() - started
    stage.say(f"  {'passed' if passed else 'FAILED'} after {seconds:.0f} s: {detail}")
    return Outcome(name, passed, detail, seconds)


@contextmanager
def _staged(cloud: LocalCloud, settings: OpsSettings, folder: Path, say: Say) -> Iterator[Stage]:
    cloud = replace(
        cloud,
        root=folder / "cloud",
        port=_free_port(),
        database_port=_free_port(),
        machine=MachineKind.NSPAWN,
        strict=False,
    )
    mine = settings.model_copy(
        update={
            "local_port": cloud.port,
            "local_db_port": cloud.database_port,
            "local_root": cloud.root,
            "local_machine": str(MachineKind.NSPAWN),
            "local_auth": False,
            "image_id": "",
        }
    )
    aws = Connection(mine)
    long = folder / "long.flac"
    sources = [f"-i {SAMPLE}" for _ in range(_REPEATS)]
    command = ["ffmpeg", "-v", "error", *" ".join(sources).split()]
    command += ["-filter_complex", f"concat=n={_REPEATS}:v=0:a=1", str(long)]
    subprocess.run(command, check=True)
    try:
        say("a cloud of its own, with a real appliance")
        cloud.up(lambda _text: None)
        deploy.deploy_infra(aws, say)
        migrate.migrate(aws.database())
        write_settings(aws, _SETTINGS, lambda _text: None)
        launch.launch(aws, say)
        appliance.hold(aws, _HOLD, lambda _text: None)
        appliance.wait_for(aws, "running", 120)
        variants = Variants(build_wheelhouse(FOLDER, say), folder / "variants")
        yield Stage(cloud, aws, variants, say, SAMPLE, long)
    finally:
        cloud.destroy(lambda _text: None)


@dataclass
class _Background:
    errors: list[Exception]


@contextmanager
def _in_background(action: Callable[[], object]) -> Iterator[_Background]:
    """Run it beside the block, and wait for its end; what it raised is kept."""
    running = _Background([])

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


def _verb(stage: Stage, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As an operator runs it."""
    settings = stage.aws.settings
    environment = {
        "CLOUD": "local",
        "LOCAL_PORT": str(settings.local_port),
        "LOCAL_DB_PORT": str(settings.local_db_port),
        "LOCAL_ROOT": str(settings.local_root),
        "LOCAL_MACHINE": settings.local_machine,
        "LOCAL_AUTH": "false",
    }
    command = [sys.executable, "-m", "ops", *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
