"""The operator's verbs against the deployed system: holds, doctor, alarms, dashboard, run-processor, destroy."""

from __future__ import annotations

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
from ops.settings import REPOSITORY, Stack
from testbed.cloud import private_cloud, quiet, settings_of
from testbed.system import deploy_all, kept_up
from testbed.waiting import wait_until
from tests.templates import alarm_names

pytestmark = pytest.mark.slow

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
OWNER = Owner(school_id=5, teacher_id=6)


@pytest.fixture(scope="module")
def aws(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A cloud that only these tests change; the last of them takes its stacks down."""
    with private_cloud(tmp_path_factory.mktemp("operator"), models_dir) as cloud:
        aws = Connection(settings_of(cloud))
        deploy_all(aws)
        yield aws


@pytest.fixture
def up(aws: Connection) -> Iterator[str]:
    with kept_up(aws) as instance_id:
        yield instance_id


def ticks_since(aws: Connection, since: datetime) -> list[str]:
    return [e.fields["reason"] for e in read_events(aws, since) if e.fields.get("event") == "tick"]


def test_a_stop_with_a_lesson_in_hand_loses_nothing_and_its_hold_is_honoured(
    aws: Connection,
) -> None:
    job_id = lesson.submit(aws, SAMPLE, OWNER, {})
    wait_until("the lesson is taken", lambda: lesson.find_job(aws, job_id).status is JobStatus.PROCESSING, 60)
    said: list[str] = []
    asked = datetime.now(UTC)
    appliance.stop(aws, timedelta(minutes=10), said.append)
    try:
        assert "the worker has left" in said
        assert aws.instance()["State"]["Name"] == "stopped"
        job, queue = lesson.find_job(aws, job_id), queues.read_queue(aws)
        finished = job.status is JobStatus.COMPLETED and queue.backlog == 0
        given_back = job.status is JobStatus.QUEUED and queue.visible == 1
        assert finished or given_back, (job, queue)
        aws.functions.invoke(FunctionName=aws.autoscaler["FunctionName"], Payload=b"{}")
        assert any("held by" in reason for reason in ticks_since(aws, asked))
        assert aws.instance()["State"]["Name"] == "stopped"
    finally:
        appliance.resume(aws, quiet)
    if given_back:
        aws.functions.invoke(FunctionName=aws.autoscaler["FunctionName"], Payload=b"{}")
    job = lesson.follow(aws, job_id, timeout=120)
    assert job.status is JobStatus.COMPLETED
    appliance.wait_for(aws, "stopped", 60)


def test_a_stop_goes_on_when_ssm_does_not_answer(
    aws: Connection, up: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_arguments: object) -> run_command.Execution:
        raise run_command.NotReachable("SSM does not reach it")

    monkeypatch.setattr(run_command, "execute", unreachable)
    said: list[str] = []
    appliance.stop(aws, timedelta(minutes=10), said.append)
    assert any("going on" in line for line in said)
    assert aws.instance()["State"]["Name"] == "stopped"


def test_the_hold_of_a_start_keeps_an_idle_instance_up(aws: Connection, up: str) -> None:
    now = status.read_status(aws)
    assert now.appliance is not None
    assert now.appliance.state == "running"
    assert now.appliance.hold is not None
    assert now.appliance.hold.active
    assert now.appliance.worker is not None
    assert not now.appliance.worker.silent


def test_the_processor_runs_by_hand_in_the_services_place_and_the_service_comes_back(aws: Connection) -> None:
    with kept_up(aws, empty_polls=25) as instance_id:
        said = appliance.run_processor(aws, 5, quiet)
        assert '"event": "worker_ended"' in said
        assert aws.instance()["State"]["Name"] == "running", "it does not stop the instance"
        assert run_command.execute(aws, instance_id, "systemctl is-active whisper-processor", 30).succeeded


def verdicts(aws: Connection) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine(aws)}


def test_the_doctor_finds_a_running_system_well(aws: Connection, up: str) -> None:
    wait_until("a heartbeat", lambda: verdicts(aws)["heartbeat"].verdict is Verdict.OK, 30)
    unwell = [c for c in doctor.examine(aws) if c.verdict is not Verdict.OK and c.name != "last decision"]
    assert unwell == []


def test_the_doctor_does_not_take_a_stopped_instance_for_a_broken_one(aws: Connection) -> None:
    found = verdicts(aws)
    assert found["service"].verdict is Verdict.SKIPPED
    assert not [c for c in found.values() if c.path == doctor.NOT_RUNNING and c.verdict is Verdict.WRONG]


def test_the_doctor_finds_a_disabled_rule_and_says_what_enables_it(aws: Connection) -> None:
    name = aws.autoscaler["RuleName"].rsplit("/", 1)[-1]
    aws.events.disable_rule(Name=name)
    try:
        check = verdicts(aws)["rule"]
    finally:
        aws.events.enable_rule(Name=name)
    assert check.verdict is Verdict.WRONG
    assert f"enable-rule --name {name}" in check.remedy


def test_the_doctor_finds_a_stopped_service(aws: Connection, up: str) -> None:
    run_command.execute(aws, up, "systemctl stop whisper-processor", 60)
    check = verdicts(aws)["service"]
    assert check.verdict is Verdict.WRONG
    assert "inactive" in check.detail
    run_command.execute(aws, up, "systemctl start whisper-processor", 60)


def test_the_doctor_finds_a_secret_that_lacks_something(aws: Connection) -> None:
    name = "classreflect/database/credentials"
    before = aws.secrets.get_secret_value(SecretId=name)["SecretString"]
    aws.secrets.put_secret_value(SecretId=name, SecretString='{"host": "nowhere"}')
    try:
        check = verdicts(aws)["secret"]
    finally:
        aws.secrets.put_secret_value(SecretId=name, SecretString=before)
    assert check.verdict is Verdict.WRONG
    assert "password" in check.detail


def test_the_doctor_finds_a_hold_while_lessons_wait(aws: Connection) -> None:
    appliance.hold(aws, timedelta(minutes=5), quiet)
    aws.sqs.send_message(QueueUrl=aws.foundation["QueueUrl"], MessageBody='{"Event": "s3:TestEvent"}')
    try:
        check = verdicts(aws)["hold"]
    finally:
        aws.sqs.purge_queue(QueueUrl=aws.foundation["QueueUrl"])
        appliance.resume(aws, quiet)
    assert (check.verdict, check.remedy) == (Verdict.WRONG, "make resume")


def test_every_alarm_says_what_to_do(aws: Connection) -> None:
    found = {alarm.name: alarm for alarm in alarms.read_alarms(aws)}
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    assert {*alarm_names(Stack.FOUNDATION, Stack.AUTOSCALER), "status-check"} == set(found)
    assert [name for name in found if f"| `{name}` |" not in manual] == []
    assert all(alarm.advice for alarm in found.values())


def test_a_dead_letter_raises_its_alarm_and_no_other(aws: Connection) -> None:
    aws.sqs.send_message(QueueUrl=aws.foundation["DlqUrl"], MessageBody="{}")

    def fires(name: str) -> bool:
        return any(alarm.name == name and alarm.fires for alarm in alarms.read_alarms(aws))

    try:
        wait_until("the alarm", lambda: fires("dead-letters"), 60)
        assert not fires("queue-long")
        now = status.read_status(aws)
        assert not now.healthy
        assert any("dead-letter" in problem for problem in now.problems)
    finally:
        aws.sqs.purge_queue(QueueUrl=aws.foundation["DlqUrl"])


def test_the_dashboard_shows_what_the_autoscaler_measured(aws: Connection) -> None:
    rows = {row.label: row for row in dashboard.read_dashboard(aws, datetime.now(UTC))}
    assert (rows["starts"].values["last hour"] or 0) >= 1
    assert {"waiting", "running", "done", "share of failed lessons", "USD for an hour of audio"} <= set(rows)


def test_status_says_that_no_release_is_wanted_until_one_is(aws: Connection) -> None:
    """tests/integration/test_releases.py has the other half."""
    assert status.read_status(aws).version.wanted is None
    assert verdicts(aws)["release"].verdict is Verdict.OK


def test_the_month_so_far_is_estimated_and_names_its_source(aws: Connection) -> None:
    estimate = status.read_status(aws).month_to_date
    assert estimate.usd >= 0
    assert estimate.disk_gib == 15
    assert "estimate" in estimate.source


def test_destroy_refuses_while_lessons_wait(aws: Connection) -> None:
    aws.sqs.send_message(QueueUrl=aws.foundation["DlqUrl"], MessageBody="{}")
    with pytest.raises(OpsError, match="LOSE_QUEUE=1"):
        destroy.plan(aws, lose_waiting=False)
    aws.sqs.purge_queue(QueueUrl=aws.foundation["DlqUrl"])


def test_destroy_takes_all_but_lessons_secret_and_database(aws: Connection) -> None:
    bucket = aws.foundation["BucketName"]
    lessons_before = aws.s3.list_objects_v2(Bucket=bucket, Prefix="transcripts/")["KeyCount"]
    assert any(line.startswith("stays: bucket") for line in destroy.plan(aws, lose_waiting=True))
    destroy.destroy(aws, quiet)
    fresh = Connection(aws.settings)
    assert fresh.find_instance() is None
    with pytest.raises(OpsError, match="not deployed"):
        _ = fresh.foundation
    assert alarms.read_alarms(fresh) == []
    assert aws.s3.list_objects_v2(Bucket=bucket, Prefix="transcripts/")["KeyCount"] == lessons_before > 0
    assert aws.secrets.get_secret_value(SecretId="classreflect/database/credentials")["SecretString"]


def test_after_that_what_exists_is_adopted_and_keeps_its_own_settings(aws: Connection) -> None:
    bucket = "backends-lessons"
    aws.s3.create_bucket(Bucket=bucket)
    queue = aws.sqs.create_queue(QueueName="backends-queue", Attributes={"VisibilityTimeout": "77"})["QueueUrl"]
    arn = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    aws.s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "theirs", "QueueArn": arn, "Events": ["s3:ObjectRemoved:*"]}]
        },
    )
    existing = {"existing_bucket_name": bucket, "existing_queue_arn": arn, "existing_queue_url": queue}
    aws = Connection(aws.settings.model_copy(update=existing))
    deploy.deploy_infra(aws, quiet)
    release.deploy(aws, quiet)
    assert (aws.foundation["BucketName"], aws.foundation["QueueUrl"]) == (bucket, queue)
    found = aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [c["Id"] for c in found["QueueConfigurations"]] == ["theirs"]
    assert [c["LambdaFunctionArn"] for c in found["LambdaFunctionConfigurations"]] == [aws.autoscaler["LiveArn"]]
    destroy.destroy(aws, quiet)
    found = aws.s3.get_bucket_notification_configuration(Bucket=bucket)
    assert [c["Id"] for c in found["QueueConfigurations"]] == ["theirs"]
    assert "LambdaFunctionConfigurations" not in found
    kept = aws.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])["Attributes"]
    assert kept == {"VisibilityTimeout": "77"}
