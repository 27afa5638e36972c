"""An image is replaced on the deployed system: the new one proves itself, the old one ends its work."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from contracts.jobs import JobStatus
from contracts.keys import Owner
from contracts.tags import REPLACEMENT_TAG
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection, tags_of
from ops.capacity import appliance, launch, replacement
from ops.capacity.replacement import Patience
from ops.capacity.replacement_plan import Part
from ops.errors import OpsError
from ops.infrastructure import deploy
from ops.lessons import lesson
from ops.observability import queues, status
from ops.settings import REPOSITORY
from testbed.cloud import private_cloud, quiet, settings_of
from testbed.system import deploy_all

pytestmark = pytest.mark.slow

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
OWNER = Owner(school_id=3, teacher_id=4)
PATIENCE = Patience(trial=90, work=240)


@pytest.fixture(scope="module")
def local(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with private_cloud(tmp_path_factory.mktemp("replacement"), models_dir) as cloud:
        deploy_all(Connection(settings_of(cloud)))
        yield cloud


class Images:
    """Each `bake` is followed by `make deploy-infra`, as in `make replace`."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._count = 0

    def bake(self, *, broken: bool = False) -> Connection:
        self._count += 1
        image_id = f"ami-{self._count:017x}"
        if broken:
            content = self._cloud.root / "images" / image_id
            content.mkdir(parents=True)
            (content / "processor.py").write_text("raise SystemExit('this image was baked wrongly')\n")
        return self.deploy(image_id)

    def deploy(self, image_id: str) -> Connection:
        aws = Connection(settings_of(self._cloud).model_copy(update={"image_id": image_id}))
        deploy.deploy_infra(aws, quiet)
        return aws


@pytest.fixture(scope="module")
def images(local: LocalCloud) -> Images:
    return Images(local)


def only_instance(aws: Connection) -> str:
    """The appliance, alone, of the wanted image, with the alarm on it."""
    (instance,) = aws.instances()
    assert REPLACEMENT_TAG not in tags_of(instance)
    assert instance["ImageId"] == aws.settings.image_id
    (alarm,) = aws.cloudwatch.describe_alarms(AlarmNames=[launch.STATUS_CHECK_ALARM])["MetricAlarms"]
    assert alarm["Dimensions"] == [{"Name": "InstanceId", "Value": instance["InstanceId"]}]
    return instance["InstanceId"]


def worker_of(aws: Connection, job_id: str) -> str:
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SELECT worker FROM audio_jobs WHERE id = %s", (job_id,))
        row = cursor.fetchone()
    assert row is not None
    return str(row["worker"])


def test_a_stopped_appliance_is_replaced_and_the_next_lesson_goes_to_the_new_one(images: Images) -> None:
    aws = images.bake()
    old = aws.instance()["InstanceId"]
    said: list[str] = []
    replacement.replace(aws, said.append, PATIENCE)
    new = only_instance(aws)
    assert new != old
    assert f"{old} is terminated" in said

    said.clear()
    replacement.replace(aws, said.append, PATIENCE)
    assert only_instance(aws) == new
    assert said == [
        f"appliance {new} is {aws.settings.image_id} on {aws.settings.instance_type}: nothing is left to do"
    ]

    job_id = lesson.submit(aws, SAMPLE, OWNER, {})
    job = lesson.follow(aws, job_id, timeout=180)
    assert job.status is JobStatus.COMPLETED
    assert worker_of(aws, job_id).startswith(new)
    appliance.wait_for(aws, "stopped", 60)


def test_a_lesson_in_hand_is_ended_by_the_old_one_and_those_that_wait_are_not_lost(
    images: Images, tmp_path: Path
) -> None:
    aws = images.bake()
    old = aws.instance()["InstanceId"]
    long = tmp_path / "long.flac"
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-stream_loop", "7", "-i", str(SAMPLE), str(long)]
    subprocess.run(command, check=True)
    first = lesson.submit(aws, long, OWNER, {})
    deadline = time.monotonic() + 90
    while lesson.find_job(aws, first).status is not JobStatus.PROCESSING:
        assert time.monotonic() < deadline, "the old one has not taken it"
        time.sleep(0.3)
    waiting = [lesson.submit(aws, SAMPLE, OWNER, {}) for _ in range(3)]

    said: list[str] = []
    replacement.replace(aws, said.append, PATIENCE)
    new = only_instance(aws)
    for job_id in (first, *waiting):
        job = lesson.follow(aws, job_id, timeout=180)
        assert job.status is JobStatus.COMPLETED, job
        assert job.attempts == 1, job
        assert lesson.transcript(aws, job_id).word_count > 0
    assert worker_of(aws, first).startswith(old), said
    assert any(worker_of(aws, job_id).startswith(new) for job_id in waiting), said
    assert (queues.read_queue(aws).backlog, queues.read_queue(aws).dead) == (0, 0)
    appliance.wait_for(aws, "stopped", 60)


def test_an_image_that_does_not_work_is_terminated_and_the_old_one_stays(images: Images) -> None:
    before = status.read_status(images.bake()).appliance
    good = images.bake()
    replacement.replace(good, quiet, PATIENCE)
    old = only_instance(good)
    assert before is not None
    assert before.instance_id != old

    broken = images.bake(broken=True)
    with pytest.raises(OpsError, match=f"failed its trial and is terminated: .*{old} stays in charge"):
        replacement.replace(broken, quiet, Patience(trial=15, work=60))
    images.deploy(good.settings.image_id)
    assert only_instance(good) == old


class Cut(BaseException):
    """A power cut, Ctrl-C, a laptop that is closed."""


def cut(*_arguments: object) -> NoReturn:
    raise Cut


@pytest.mark.parametrize(
    "where", ["_wait_until_listed", "_prove", "_hand_over", "_tag", "_let_go"], ids=lambda name: name.strip("_")
)
def test_a_roll_out_that_was_cut_off_goes_on(images: Images, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aws = images.bake()
    old = aws.instance()["InstanceId"]
    with monkeypatch.context() as patch:
        patch.setattr(replacement, where, cut)
        with pytest.raises(Cut):
            replacement.replace(aws, quiet, PATIENCE)
    there = {instance["InstanceId"]: tags_of(instance).get(REPLACEMENT_TAG) for instance in aws.instances()}
    assert len(there) == 2
    assert None in there.values(), "one is in charge at every moment"
    if Part.TRIAL in there.values() or Part.LEAVING in there.values():
        assert any(" trial " in line or " leaving " in line for line in status.read_status(aws).replacing)
    replacement.replace(aws, quiet, PATIENCE)
    (new,) = set(there) - {old}
    assert only_instance(aws) == new, "the one on trial was taken over, not launched again"


def test_two_roll_outs_at_once_end_with_one_appliance(images: Images) -> None:
    aws = images.bake()
    errors: list[Exception] = []

    def run() -> None:
        try:
            replacement.replace(Connection(aws.settings), quiet, PATIENCE)
        except OpsError as error:  # one may lose its trial to the other
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    replacement.replace(aws, quiet, PATIENCE)
    assert only_instance(aws)
    assert len(errors) <= 1


def test_a_held_appliance_is_not_replaced(images: Images) -> None:
    aws = images.bake()
    old = aws.instance()["InstanceId"]
    appliance.hold(aws, timedelta(minutes=5), quiet)
    try:
        with pytest.raises(OpsError, match="make resume"):
            replacement.replace(aws, quiet, PATIENCE)
        assert [instance["InstanceId"] for instance in aws.instances()] == [old]
    finally:
        appliance.resume(aws, quiet)


def test_an_image_the_launch_template_does_not_have_is_refused(images: Images, local: LocalCloud) -> None:
    aws = images.bake()
    newer = Connection(aws.settings.model_copy(update={"image_id": "ami-0fffffffffffffff0"}))
    with pytest.raises(OpsError, match="make deploy-infra"):
        replacement.replace(newer, quiet, PATIENCE)
