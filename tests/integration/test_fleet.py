"""A fleet at work: its machines come with the lessons, and leave by themselves; none is lost on the way."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.capacity import CapacityMode
from contracts.jobs import JobStatus
from contracts.keys import Owner
from contracts.tags import HEARTBEAT_TAG
from local.platform.cloud import LocalCloud
from local.platform.spot import interrupt
from ops.autoscaler import release
from ops.aws import run_command
from ops.aws.connection import Connection
from ops.aws.logs import LogEvent, read_events
from ops.capacity import appliance, fleet, launch, mode
from ops.cli import status_screen
from ops.errors import OpsError
from ops.infrastructure import deploy
from ops.lessons import lesson
from ops.observability import doctor, queues, status
from ops.settings import REPOSITORY
from testbed.cloud import quiet
from testbed.media import ffmpeg
from testbed.system import FLEET_MAXIMUM
from testbed.waiting import wait_until

pytestmark = pytest.mark.slow

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
LESSONS = 40
CLIP_SECONDS = 3


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Short recordings, each a piece of the sample."""
    files = [tmp_path / f"clip-{number}.wav" for number in range(5)]
    for number, file in enumerate(files):
        ffmpeg("-ss", str(7 * number), "-t", str(CLIP_SECONDS), "-i", str(SAMPLE), "-ar", "16000", str(file))
    return files


def submit(aws: Connection, file: Path) -> str:
    return lesson.submit(aws, file, Owner(school_id=1, teacher_id=2), {})


def rows(aws: Connection, job_ids: list[str]) -> list[lesson.Job]:
    wanted = set(job_ids)
    return [job for job in lesson.list_jobs(aws, 1000) if job.id in wanted]


def completed(aws: Connection, job_ids: list[str]) -> int:
    return sum(job.status is JobStatus.COMPLETED for job in rows(aws, job_ids))


def busy(aws: Connection) -> list[str]:
    """Machines whose heartbeat tells of a job."""
    return [
        instance["InstanceId"]
        for instance in aws.machines()
        if any(tag["Key"] == HEARTBEAT_TAG and " busy " in tag["Value"] for tag in instance["Tags"])
    ]


def kill_worker(aws: Connection, instance_id: str) -> None:
    """SIGKILL to the worker and all its children, as the kernel does when memory runs out."""
    unit = "systemctl status whisper-processor | sed -n 's/.*Main PID: *//p'"
    ended = run_command.execute(aws, instance_id, f"pid=$({unit}) && kill -KILL -$pid", 30)
    assert ended.succeeded, ended.stderr


def empty(aws: Connection, seconds: float = 120) -> None:
    fleet.wait_for(aws, fleet.is_empty, seconds, "an empty fleet")


@pytest.mark.timeout(420)
def test_forty_lessons_through_three_workers_survive_spot_and_a_kill_and_the_fleet_ends_empty(
    fleet_deployed: Connection, fleet_cloud: LocalCloud, clips: list[Path]
) -> None:
    aws, began = fleet_deployed, datetime.now(UTC)
    job_ids = [submit(aws, clips[number % len(clips)]) for number in range(LESSONS)]
    wait_until("three workers", lambda: len(aws.machines()) == FLEET_MAXIMUM)
    wait_until("two are busy", lambda: len(busy(aws)) >= 2 and completed(aws, job_ids) >= 3)
    first, second = busy(aws)[:2]
    taken = interrupt(aws, fleet_cloud.root, first, seconds=20)
    kill_worker(aws, second)
    assert completed(aws, job_ids) < LESSONS, "both happen in the middle"
    taken.join()
    wait_until("all lessons", lambda: completed(aws, job_ids) == LESSONS, 240)
    empty(aws)

    found = rows(aws, job_ids)
    assert len(found) == LESSONS
    with aws.database() as database, database.cursor() as cursor:
        cursor.execute("SELECT job_id, COUNT(*) AS times FROM transcripts GROUP BY job_id")
        times = {row["job_id"]: row["times"] for row in cursor.fetchall()}
    assert {job_id: times.get(job_id) for job_id in job_ids} == dict.fromkeys(job_ids, 1)
    queue = queues.read_queue(aws)
    assert (queue.backlog, queue.dead) == (0, 0)
    group = fleet.group(aws)
    assert (group["DesiredCapacity"], group["Instances"]) == (0, [])
    said = [event.fields for event in read_events(aws, began)]
    assert any(event.get("event") == "spot_notice" for event in said)
    assert any(event.get("action") == "scale_out" for event in said)
    left = [event for event in said if event.get("event") == "instance_stopping"]
    assert len(left) >= FLEET_MAXIMUM - 1, "all but the one Spot took left by themselves"


def test_the_verbs_keep_a_machine_up_and_send_it_away(fleet_deployed: Connection) -> None:
    aws = fleet_deployed
    machines = mode.of(aws)
    empty(aws)
    machines.start(aws, timedelta(minutes=5), quiet)
    try:
        (instance,) = aws.machines()
        run_command.wait_online(aws, instance["InstanceId"], 30)
        wait_until("the worker saw the hold", lambda: any(e.fields.get("event") == "held" for e in recent(aws)))
        now = status.read_status(aws)
        assert now.fleet is not None
        assert (now.fleet.desired, now.fleet.maximum) == (1, FLEET_MAXIMUM)
        assert now.fleet.hold is not None
        assert now.fleet.hold.active
        assert [each.instance_id for each in now.machines] == [instance["InstanceId"]]
        shown = dict(status_screen.status_rows(now, datetime.now(UTC)))
        assert "desired 1 of 3" in shown["fleet"]
        checks = {check.name: check for check in doctor.examine(aws)}
        for name in ("capacity mode", "appliance", "hold", "SSM", "service"):
            assert checks[name].verdict is doctor.Verdict.OK, checks[name]
        # What a machine does whose worker crashed in a loop: it is not replaced.
        with suppress(OpsError):  # the machine may end before the command that ends it
            run_command.execute(aws, instance["InstanceId"], "python3.11 -m whisper_processor.leave", 60)
        empty(aws)
        machines.start(aws, timedelta(minutes=5), quiet)
    finally:
        machines.stop(aws, timedelta(minutes=5), quiet)
    assert fleet.is_empty(fleet.group(aws))
    job_id = submit(aws, SAMPLE)
    wait_until(
        "a decision under the hold", lambda: any("held by" in e.fields.get("reason", "") for e in recent(aws))
    )
    assert fleet.is_empty(fleet.group(aws)), "the hold binds the autoscaler"
    machines.resume(aws, quiet)
    wait_until("the lesson", lambda: completed(aws, [job_id]) == 1, 150)
    empty(aws)


def recent(aws: Connection) -> list[LogEvent]:
    return read_events(aws, datetime.now(UTC) - timedelta(seconds=20))


@pytest.mark.timeout(420)
def test_the_capacity_mode_is_switched_both_ways_with_lessons_under_way(
    fleet_deployed: Connection, clips: list[Path]
) -> None:
    aws = fleet_deployed
    single = Connection(aws.settings.model_copy(update={"capacity_mode": CapacityMode.INSTANCE}))
    said: list[str] = []
    first = [submit(aws, clips[number % len(clips)]) for number in range(6)]
    wait_until("a busy machine", lambda: busy(aws))
    deploy.deploy_infra(single, quiet)
    release.deploy(single, quiet)
    assert single.stack_outputs(aws.settings.fleet_stack) is None
    assert single.other_machines() == []
    try:
        launch.launch(single, quiet)
        wait_until("all lessons, on the one appliance", lambda: completed(single, first) == len(first), 150)
        appliance.wait_for(single, "stopped", 60)
    finally:
        aws.forget_outputs(aws.settings.fleet_stack)
        deploy.deploy_infra(aws, quiet)
        release.deploy(aws, quiet)
        fleet.launch(aws, said.append)
    assert "is left for the way back" in " ".join(said)
    second = submit(aws, clips[0])
    wait_until("a lesson on the fleet", lambda: completed(aws, [second]) == 1, 150)
    (left,) = aws.other_machines()
    assert left["State"]["Name"] == "stopped"
    aws.ec2.terminate_instances(InstanceIds=[left["InstanceId"]])
    assert {job.attempts for job in rows(aws, [*first, second])} == {1}, "giving back costs no attempt"
    empty(aws)
