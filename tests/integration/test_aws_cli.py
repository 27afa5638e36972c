"""The documented manual operations, word for word with the AWS CLI, against the deployed system."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from contracts.jobs import JobStatus
from contracts.names import DATABASE_SECRET
from ops.aws.connection import Connection
from ops.capacity import appliance
from ops.errors import OpsError
from ops.lessons import lesson
from ops.observability.checks.processor import IMPORTS
from ops.settings import REPOSITORY
from testbed.cloud import quiet
from testbed.system import kept_up
from testbed.waiting import wait_until

AWS = REPOSITORY / ".local" / "awscli-venv" / "bin" / "aws"
Cli = Callable[..., str]


@pytest.fixture
def aws(deployed: Connection) -> Cli:
    """Version 1 of the CLI knows no AWS_ENDPOINT_URL for SQS: always --endpoint-url, or it would call AWS."""
    environment = {
        "PATH": os.environ["PATH"],
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": deployed.settings.aws_region,
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [AWS, *arguments, "--endpoint-url", str(deployed.settings.endpoint)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.strip()

    return run


@pytest.fixture
def instance(deployed: Connection) -> str:
    return deployed.instance()["InstanceId"]


def test_the_instance_is_looked_up_started_and_stopped(deployed: Connection, aws: Cli, instance: str) -> None:
    query = ("--query", "Reservations[0].Instances[0].State.Name", "--output", "text")

    def state() -> str:
        return aws("ec2", "describe-instances", "--instance-ids", instance, *query)

    appliance.hold(deployed, timedelta(minutes=5), quiet)
    appliance.wait_for(deployed, "stopped", 60)
    try:
        assert state() == "stopped"
        aws("ec2", "start-instances", "--instance-ids", instance)
        wait_until("it runs", lambda: state() == "running", 60)
        aws("ec2", "stop-instances", "--instance-ids", instance)
        wait_until("it is stopped", lambda: state() == "stopped", 90)
    finally:
        appliance.resume(deployed, quiet)


def test_the_queue_is_counted(deployed: Connection, aws: Cli) -> None:
    counted = json.loads(
        aws(
            *("sqs", "get-queue-attributes", "--queue-url", deployed.foundation["QueueUrl"]),
            *("--attribute-names", "ApproximateNumberOfMessages"),
        )
    )
    assert int(counted["Attributes"]["ApproximateNumberOfMessages"]) >= 0


def test_a_message_sent_by_hand_makes_its_job_row(deployed: Connection, aws: Cli) -> None:
    """There is neither a row nor a file for it: the worker makes the row and says what is wrong."""
    body = '{"jobId":"test-job-id","s3Key":"audio-files/1/1/test.wav"}'
    aws("sqs", "send-message", "--queue-url", deployed.foundation["QueueUrl"], "--message-body", body)
    deployed.ec2.start_instances(InstanceIds=[deployed.instance()["InstanceId"]])

    def failed() -> bool:
        try:
            return lesson.find_job(deployed, "test-job-id").status is JobStatus.FAILED
        except OpsError:
            return False

    wait_until("the job has failed", failed, 90)
    job = lesson.find_job(deployed, "test-job-id")
    assert (job.school_id, job.teacher_id) == (1, 1)
    assert "not found: audio-files/1/1/test.wav" in (job.error_message or "")
    appliance.wait_for(deployed, "stopped", 60)
    deployed.sqs.purge_queue(QueueUrl=deployed.foundation["DlqUrl"])  # other tests count dead letters


@pytest.fixture
def online(deployed: Connection, aws: Cli) -> Iterator[str]:
    with kept_up(deployed) as instance_id:
        listed = json.loads(aws("ssm", "describe-instance-information"))["InstanceInformationList"]
        assert [i["PingStatus"] for i in listed if i["InstanceId"] == instance_id] == ["Online"]
        yield instance_id


def test_commands_run_on_the_machine(deployed: Connection, aws: Cli, online: str) -> None:
    def output(command: str) -> dict[str, Any]:
        sent = json.loads(
            aws(
                *("ssm", "send-command", "--instance-ids", online, "--document-name", "AWS-RunShellScript"),
                *("--parameters", json.dumps({"commands": [command]})),
            )
        )
        which = ("--command-id", sent["Command"]["CommandId"], "--instance-id", online)

        def invocation() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(aws("ssm", "get-command-invocation", *which))
            return found

        wait_until("the command has ended", lambda: invocation()["Status"] in {"Success", "Failed"}, 60)
        return invocation()

    assert output("systemctl is-active whisper-processor")["StandardOutputContent"].strip() == "active"
    assert output(IMPORTS)["StandardOutputContent"].strip() == "All imports OK"


def test_the_rule_is_described(deployed: Connection, aws: Cli) -> None:
    name = deployed.autoscaler["RuleName"].rsplit("/", 1)[-1]
    rule = json.loads(aws("events", "describe-rule", "--name", name))
    assert (rule["State"], rule["ScheduleExpression"]) == ("ENABLED", "rate(1 minute)")


def test_the_logs_are_read(deployed: Connection, aws: Cli) -> None:
    """`aws logs tail` is version 2's; version 1, the one on PyPI, makes the call behind it."""
    group = f"/aws/lambda/{deployed.autoscaler['FunctionName']}"
    command = ("logs", "filter-log-events", "--log-group-name", group)
    wait_until(
        "a tick", lambda: any('"event": "tick"' in e["message"] for e in json.loads(aws(*command))["events"]), 100
    )


def test_the_secret_is_read(aws: Cli) -> None:
    found = json.loads(aws("secretsmanager", "get-secret-value", "--secret-id", DATABASE_SECRET))
    assert {"host", "port", "username", "password", "dbname"} <= set(json.loads(found["SecretString"]))
