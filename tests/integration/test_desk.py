"""The operator's desk against the deployed system: holds, doctor, alarms, dashboard, run-processor, destroy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.jobs import JobStatus
from contracts.keys import Owner
from ops.autoscaler import release
from ops.aws import run_command
from ops.aws.connection import Connection
from ops.aws.logs import read_events
from ops.capacity import appliance
from ops.errors import OpsError
from ops.infrastructure import deploy, destroy
from ops.lessons import lesson
from ops.observability import alarms, dashboard, doctor, queues, status
from ops.observability.doctor import Verdict
from ops.settings import REPOSITORY
from testbed.cloud import private_cloud, quiet, settings_of
from testbed.system import deploy_all, kept_up
from testbed.waiting import wait_until

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
OWNER = Owner(school_id=5, teacher_id=6)


@pytest.fixture(scope="module")
def desk(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A cloud that only these tests change; the last of them takes its stacks down."""
    with private_cloud(tmp_path_factory.mktemp("desk"), models_dir) as cloud:
        aws = Connection(settings_of(cloud))
        deploy_all(aws)
        yield aws


@pytest.fixture
def up(desk: Connection) -> Iterator[str]:
    with kept_up(desk) as instance_id:
        yield instance_id


def ticks_since(aws: Connection, since: datetime) -> list[str]:
    return [e.fields["reason"] for e in read_events(aws, since) if e.fields.get("event") == "tick"]


def test_a_stop_with_a_lesson_in_hand_loses_nothing_and_its_hold_is_honoured(
    desk: Connection,
) -> None:
    job_id = lesson.submit(desk, SAMPLE, OWNER, {})
    wait_until("the lesson is taken", lambda: lesson.find_job(desk, job_id).status is JobStatus.PROCESSING, 60)
    said: list[str] = []
    asked = datetime.now(UTC)
    appliance.stop(desk, timedelta(minutes=10), said.append)
    try:
        assert "the worker has left" in said
        assert desk.instance()["State"]["Name"] == "stopped"
        job, queue = lesson.find_job(desk, job_id), queues.read_queue(desk)
        finished = job.status is JobStatus.COMPLETED and queue.backlog == 0
        given_back = job.status is JobStatus.QUEUED and queue.visible == 1
        assert finished or given_back, (job, queue)
        desk.functions.invoke(FunctionName=desk.autoscaler["FunctionName"], Payload=b"{}")
        assert any("held by" in reason for reason in ticks_since(desk, asked))
        assert desk.instance()["State"]["Name"] == "stopped"
    finally:
        appliance.resume(desk, quiet)
    if given_back:
        desk.functions.invoke(FunctionName=desk.autoscaler["FunctionName"], Payload=b"{}")
    *_, job = lesson.follow(desk, job_id, timeout=120)
    assert job.status is JobStatus.COMPLETED
    appliance.wait_for(desk, "stopped", 60)


def test_a_stop_goes_on_when_ssm_does_not_answer(
    desk: Connection, up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_arguments: object) -> run_command.Execution:
        raise run_command.NotReachable("SSM does not reach it")

    monkeypatch.setattr(run_command, "execute", unreachable)
    said: list[str] = []
    appliance.stop(desk, timedelta(minutes=10), said.append)
    assert any("going on" in line for line in said)
    assert desk.instance()["State"]["Name"] == "stopped"


def test_the_hold_of_a_start_keeps_an_idle_instance_up(desk: Connection, up: str) -> None:
    now = status.read_status(desk)
    assert now.appliance is not None
    assert now.appliance.state == "running"
    assert now.appliance.hold is not None
    assert now.appliance.hold.active
    assert now.appliance.worker is not None
    assert not now.appliance.worker.silent


def test_the_processor_runs_by_hand_in_the_services_place_and_the_service_comes_back(desk: Connection) -> None:
    with kept_up(desk, empty_polls=25) as instance_id:
        said = appliance.run_processor(desk, 5, quiet)
        assert '"event": "worker_ended"' in said
        assert desk.instance()["State"]["Name"] == "running", "it does not stop the instance"
        assert run_command.execute(desk, instance_id, "systemctl is-active whisper-processor", 30).succeeded


def verdicts(aws: Connection) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(aws)}


def test_the_doctor_finds_a_running_system_well(desk: Connection, up: str) -> None:
    wait_until("a heartbeat", lambda: verdicts(desk)["heartbeat"].verdict is Verdict.OK, 30)
    unwell = [c for c in doctor.examine(desk) if c.verdict is not Verdict.OK and c.name != "last decision"]
    assert unwell == []


def test_the_doctor_does_not_take_a_stopped_instance_for_a_broken_one(desk: Connection) -> None:
    found = verdicts(desk)
    assert found["service"].verdict is Verdict.SKIPPED
    assert not [c for c in found.values() if c.path == doctor.NOT_RUNNING and c.verdict is Verdict.WRONG]


def test_the_doctor_finds_a_disabled_rule_and_says_what_enables_it(desk: Connection) -> None:
    name = desk.autoscaler["RuleName"].rsplit("/", 1)[-1]
    desk.events.disable_rule(Name=name)
    try:
        check = verdicts(desk)["rule"]
    finally:
        desk.events.enable_rule(Name=name)
    assert check.verdict is Verdict.WRONG
    assert f"enable-rule --name {name}" in check.remedy


def test_the_doctor_finds_a_stopped_service(desk: Connection, up: str) -> None:
    run_command.execute(desk, up, "systemctl stop whisper-processor", 60)
    check = verdicts(desk)["service"]
    assert check.verdict is Verdict.WRONG
    assert "inactive" in check.detail
    run_command.execute(desk, up, "systemctl start whisper-processor", 60)


def test_the_doctor_finds_a_secret_that_lacks_something(desk: Connection) -> None:
    name = "classreflect/database/credentials"
    before = desk.secrets.get_secret_value(SecretId=name)["SecretString"]
    desk.secrets.put_secret_value(SecretId=name, SecretString='{"host": "nowhere"}')
    try:
        check = verdicts(desk)["secret"]
    finally:
        desk.secrets.put_secret_value(SecretId=name, SecretString=before)
    assert check.verdict is Verdict.WRONG
    assert "password" in check.detail


def test_the_doctor_finds_a_hold_while_lessons_wait(desk: Connection) -> None:
    appliance.hold(desk, timedelta(minutes=5), quiet)
    desk.sqs.send_message(QueueUrl=desk.foundation["QueueUrl"], MessageBody='{"Event": "s3:TestEvent"}')
    try:
        check = verdicts(desk)["hold"]
    finally:
        desk.sqs.purge_queue(QueueUrl=desk.foundation["QueueUrl"])
        appliance.resume(desk, quiet)
    assert (check.verdict, check.remedy) == (Verdict.WRONG, "make resume")


def test_every_alarm_says_what_to_do(desk: Connection) -> None:
    found = {alarm.name: alarm for alarm in alarms.read_alarms(desk)}
    templates = [REPOSITORY / "infra" / f"{name}.yaml" for name in ("foundation", "autoscaler")]
    template = "".join(path.read_text() for path in templates)
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    assert {*re.findall(r"AlarmName: classreflect-whisper-(\S+)", template), "status-check"} == set(found)
    assert [name for name in found if f"| `{name}` |" not in manual] == []
    assert all(alarm.advice for alarm in found.values())


def test_a_dead_letter_raises_its_alarm_and_no_other(desk: Connection) -> None:
    desk.sqs.send_message(QueueUrl=desk.foundation["DlqUrl"], MessageBody="{}")

    def fires(name: str) -> bool:
        return any(alarm.name == name and alarm.fires for alarm in alarms.read_alarms(desk))

    try:
        wait_until("the alarm", lambda: fires("dead-letters"), 60)
        assert not fires("queue-long")
        now = status.read_status(desk)
        assert not now.healthy
        assert any("dead-letter" in problem for problem in now.problems)
    finally:
        desk.sqs.purge_queue(QueueUrl=desk.foundation["DlqUrl"])


def test_the_dashboard_shows_what_the_autoscaler_measured(desk: Connection) -> None:
    rows = {row.label: row for row in dashboard.read_dashboard(desk, datetime.now(UTC))}
    assert (rows["starts"].values["last hour"] or 0) >= 1
    assert {"waiting", "running", "done", "share of failed lessons", "USD for an hour of audio"} <= set(rows)


def test_status_says_that_no_release_is_wanted_until_one_is(desk: Connection) -> None:
    """tests/integration/test_releases.py has the other half."""
    assert status.read_status(desk).version.wanted is None
    assert verdicts(desk)["release"].verdict is Verdict.OK


def test_the_month_so_far_is_estimated_and_names_its_source(desk: Connection) -> None:
    estimate = status.read_status(desk).month_to_date
    assert estimate.usd >= 0
    assert estimate.disk_gib == 15
    assert "estimate" in estimate.source


def test_destroy_refuses_while_lessons_wait(desk: Connection) -> None:
    desk.sqs.send_message(QueueUrl=desk.foundation["DlqUrl"], MessageBody="{}")
    with pytest.raises(OpsError, match="LOSE_QUEUE=1"):
        destroy.plan(desk, lose_waiting=False)
    desk.sqs.purge_queue(QueueUrl=desk.foundation["DlqUrl"])


def test_destroy_takes_all_but_lessons_secret_and_database(desk: Connection) -> None:
    bucket = desk.foundation["BucketName"]
    lessons_before = desk.s3.list_objects_v2(Bucket=bucket, Prefix="transcripts/")["KeyCount"]
    assert any(line.startswith("stays: bucket") for line in destroy.plan(desk, lose_waiting=True))
    destroy.destroy(desk, quiet)
    fresh = Connection(desk.settings)
    assert fresh.find_instance() is None
    with pytest.raises(OpsError, match="not deployed"):
        _ = fresh.foundation
    assert alarms.read_alarms(fresh) == []
    assert desk.s3.list_objects_v2(Bucket=bucket, Prefix="transcripts/")["KeyCount"] == lessons_before > 0
    assert desk.secrets.get_secret_value(SecretId="classreflect/database/credentials")["SecretString"]


def test_after_that_what_exists_is_adopted_and_keeps_its_own_settings(desk: Connection) -> None:
    bucket = "backends-lessons"
    desk.s3.create_bucket(Bucket=bucket)
    queue = desk.sqs.create_queue(QueueName="backends-queue", Attributes={"VisibilityTimeout": "77"})["QueueUrl"]
    arn = desk.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    desk.s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectRemoved:*"]}]
        },
    )
    existing = {"existing_bucket_name": bucket, "existing_queue_arn": arn, "existing_queue_url": queue}
    aws = Connection(desk.settings.model_copy(update=existing))
    deploy.deploy_infra(aws, quiet)
    release.deploy(aws, quiet)
    assert (aws.foundation["BucketName"], aws.foundation["QueueUrl"]) == (bucket, queue)
    found = desk.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [c["Id"] for c in found["QueueConfigurations"]] == ["theirs"]
    assert [c["LambdaFunctionArn"] for c in found["LambdaFunctionConfigurations"]] == [aws.autoscaler["LiveArn"]]
    destroy.destroy(aws, quiet)
    found = desk.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [c["Id"] for c in found["QueueConfigurations"]] == ["theirs"]
    assert "LambdaFunctionConfigurations" not in found
    kept = desk.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])["Attributes"]
    assert kept == {"VisibilityTimeout": "77"}
