"""The templates' policies, enforced: with exactly them a lesson goes through, and nothing else does.

The cloud of these tests speaks TLS and judges every call (LOCAL_AUTH), so the TLS-only policies hold too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from contracts.jobs import JobStatus
from contracts.keys import DEPLOY_LOCK_KEY, RELEASES_PREFIX, WHEELHOUSES_PREFIX, Owner
from contracts.metrics import NAMESPACE
from contracts.names import DATABASE_SECRET, PARAMETER_PREFIX, WANTED_PARAMETER
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, PROCESSOR_TAG, ROLE_TAG
from ops.aws.connection import Connection
from ops.lessons import lesson
from ops.observability import queues, status
from ops.settings import REPOSITORY
from testbed.cloud import private_cloud, settings_of
from testbed.system import deploy_all

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
RELEASE_KEY = f"{RELEASES_PREFIX}1.0.0-0123456789ab/release.tar"
DENIALS = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
Client = Callable[[str], Any]


@pytest.fixture(scope="module")
def strict(models_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with private_cloud(tmp_path_factory.mktemp("strict"), models_dir, strict=True) as cloud:
        aws = Connection(settings_of(cloud))
        deploy_all(aws)
        yield aws


@pytest.fixture(scope="module")
def names(strict: Connection) -> dict[str, str]:
    """What the calls below name: outputs, the appliance, and things of others on the same account."""
    other = strict.ec2.run_instances(ImageId="ami-0000000000000000a", MinCount=1, MaxCount=1)
    strict.secrets.create_secret(Name="backend/payment", SecretString="{}")
    strict.ssm.put_parameter(Name="/backend/key", Value="x", Type="String")
    strict.ssm.put_parameter(Name=WANTED_PARAMETER, Value="x", Type="String")
    strict.s3.put_object(Bucket=strict.foundation["BucketName"], Key=RELEASE_KEY, Body=b"x")
    return {
        **strict.foundation,
        "appliance": strict.instance()["InstanceId"],
        "other": other["Instances"][0]["InstanceId"],
    }


def role_of(aws: Connection, logical_id: str, stack: str) -> Client:
    """Clients with the credentials of a role of the templates."""
    root = boto3.session.Session("test", "test", region_name=aws.settings.aws_region)
    options = {"endpoint_url": aws.settings.endpoint, "verify": str(aws.settings.certificate)}
    found = aws.cloudformation.describe_stack_resource(StackName=stack, LogicalResourceId=logical_id)
    name = found["StackResourceDetail"]["PhysicalResourceId"]
    arn = root.client("iam", **options).get_role(RoleName=name)["Role"]["Arn"]  # type: ignore[call-overload]
    keys = root.client("sts", **options).assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]  # type: ignore[call-overload]
    session = boto3.session.Session(
        keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"], aws.settings.aws_region
    )
    return lambda service: session.client(service, **options)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def appliance_role(strict: Connection) -> Client:
    return role_of(strict, "InstanceRole", strict.settings.foundation_stack)


@pytest.fixture(scope="module")
def function_role(strict: Connection) -> Client:
    return role_of(strict, "FunctionRole", strict.settings.autoscaler_stack)


def call(
    client: Client, names: dict[str, str], service: str, method: str, arguments: dict[str, Any]
) -> str | None:
    """Make the call; returns the error's code, None when it was allowed."""
    filled = json.loads(_fill(json.dumps(arguments), names))
    try:
        getattr(client(service), method)(**filled)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def _fill(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(f"<{name}>", value)
    return text


def tag(instance: str, *keys: str) -> dict[str, Any]:
    return {"Resources": [instance], "Tags": [{"Key": key, "Value": "x"} for key in keys]}


def test_a_lesson_goes_through_under_exactly_these_policies(strict: Connection) -> None:
    job_id = lesson.submit(strict, SAMPLE, Owner(school_id=3, teacher_id=4), {})
    job = lesson.follow(strict, job_id, timeout=240)
    assert job.status is JobStatus.COMPLETED, job.error_message
    assert lesson.transcript(strict, job_id).word_count > 50
    assert queues.read_queue(strict).dead == 0
    # Calls whose refusal the worker survives: its tags, its metrics.
    assert status.read_status(strict).version.installed
    measured = strict.cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]
    assert {"JobsDone", "AudioSeconds", "InstanceRunning"} <= {metric["MetricName"] for metric in measured}
    root = strict.settings.local_root / "instances" / strict.instance()["InstanceId"]
    assert "not authorized" not in (root / "processor.log").read_text()


APPLIANCE_MAY = [
    ("s3", "list_objects_v2", {"Bucket": "<BucketName>"}),
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": "transcripts/1/2/x.txt"}),
    ("sqs", "receive_message", {"QueueUrl": "<QueueUrl>", "WaitTimeSeconds": 0}),
    ("sqs", "send_message", {"QueueUrl": "<DlqUrl>", "MessageBody": "{}"}),
    ("secretsmanager", "get_secret_value", {"SecretId": DATABASE_SECRET}),
    ("ssm", "get_parameters_by_path", {"Path": PARAMETER_PREFIX}),
    ("ssm", "get_parameter", {"Name": WANTED_PARAMETER}),
    ("s3", "get_object", {"Bucket": "<BucketName>", "Key": RELEASE_KEY}),
    ("ec2", "create_tags", tag("<appliance>", HEARTBEAT_TAG)),
    ("ec2", "create_tags", tag("<appliance>", PROCESSOR_TAG)),
    ("ec2", "stop_instances", {"InstanceIds": ["<appliance>"]}),
    (
        "cloudwatch",
        "put_metric_data",
        {"Namespace": NAMESPACE, "MetricData": [{"MetricName": "JobsDone", "Value": 1}]},
    ),
]

APPLIANCE_MUST_NOT = [
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": "audio-files/1/2/x.mp3"}),
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": RELEASE_KEY}),
    ("s3", "delete_object", {"Bucket": "<BucketName>", "Key": RELEASE_KEY}),
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": f"{WHEELHOUSES_PREFIX}0123456789ab.tar"}),
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": DEPLOY_LOCK_KEY}),
    ("ssm", "put_parameter", {"Name": WANTED_PARAMETER, "Value": "x", "Type": "String", "Overwrite": True}),
    ("ssm", "delete_parameter", {"Name": WANTED_PARAMETER}),
    ("s3", "put_object", {"Bucket": "<BucketName>", "Key": "models/base/model.bin"}),
    ("s3", "get_object", {"Bucket": "<BucketName>", "Key": "transcripts/1/2/x.txt"}),
    ("s3", "delete_object", {"Bucket": "<BucketName>", "Key": "transcripts/1/2/x.txt"}),
    ("s3", "delete_bucket", {"Bucket": "<BucketName>"}),
    ("sqs", "send_message", {"QueueUrl": "<QueueUrl>", "MessageBody": "{}"}),
    ("sqs", "purge_queue", {"QueueUrl": "<QueueUrl>"}),
    ("sqs", "receive_message", {"QueueUrl": "<DlqUrl>"}),
    ("secretsmanager", "get_secret_value", {"SecretId": "backend/payment"}),
    ("secretsmanager", "put_secret_value", {"SecretId": DATABASE_SECRET, "SecretString": "{}"}),
    ("ssm", "get_parameter", {"Name": "/backend/key"}),
    ("ssm", "put_parameter", {"Name": f"{PARAMETER_PREFIX}/X", "Value": "x", "Type": "String"}),
    ("ssm", "send_command", {"InstanceIds": ["<other>"], "DocumentName": "AWS-RunShellScript"}),
    ("ec2", "run_instances", {"ImageId": "ami-0000000000000000a", "MinCount": 1, "MaxCount": 1}),
    ("ec2", "start_instances", {"InstanceIds": ["<appliance>"]}),
    ("ec2", "terminate_instances", {"InstanceIds": ["<appliance>"]}),
    ("ec2", "stop_instances", {"InstanceIds": ["<other>"]}),
    ("ec2", "create_tags", tag("<appliance>", HOLD_TAG)),
    ("ec2", "create_tags", tag("<appliance>", HEARTBEAT_TAG, HOLD_TAG)),
    ("ec2", "create_tags", tag("<appliance>", ROLE_TAG)),
    ("ec2", "create_tags", tag("<other>", HEARTBEAT_TAG)),
    ("ec2", "delete_tags", {"Resources": ["<appliance>"], "Tags": [{"Key": HOLD_TAG}]}),
    (
        "cloudwatch",
        "put_metric_data",
        {"Namespace": "Backend", "MetricData": [{"MetricName": "x", "Value": 1}]},
    ),
    ("iam", "create_user", {"UserName": "mallory"}),
    ("lambda", "invoke", {"FunctionName": "classreflect-whisper-autoscaler"}),
]

FUNCTION_MAY = [
    ("ec2", "describe_instances", {}),
    ("sqs", "get_queue_attributes", {"QueueUrl": "<QueueUrl>", "AttributeNames": ["All"]}),
    ("ec2", "stop_instances", {"InstanceIds": ["<appliance>"]}),
    ("ec2", "create_tags", tag("<appliance>", "classreflect:autoscaler")),
    ("ec2", "delete_tags", {"Resources": ["<appliance>"], "Tags": [{"Key": "classreflect:autoscaler"}]}),
]

FUNCTION_MUST_NOT = [
    ("ec2", "terminate_instances", {"InstanceIds": ["<appliance>"]}),
    ("ec2", "run_instances", {"ImageId": "ami-0000000000000000a", "MinCount": 1, "MaxCount": 1}),
    ("ec2", "stop_instances", {"InstanceIds": ["<other>"]}),
    ("ec2", "start_instances", {"InstanceIds": ["<other>"]}),
    ("ec2", "reboot_instances", {"InstanceIds": ["<other>"]}),
    ("ec2", "create_tags", tag("<appliance>", HOLD_TAG)),
    ("ec2", "delete_tags", {"Resources": ["<appliance>"], "Tags": [{"Key": HOLD_TAG}]}),
    ("ec2", "create_tags", tag("<other>", "classreflect:autoscaler")),
    ("sqs", "receive_message", {"QueueUrl": "<QueueUrl>"}),
    ("sqs", "send_message", {"QueueUrl": "<QueueUrl>", "MessageBody": "{}"}),
    ("sqs", "get_queue_attributes", {"QueueUrl": "<DlqUrl>", "AttributeNames": ["All"]}),
    ("s3", "get_object", {"Bucket": "<BucketName>", "Key": "audio-files/1/2/x.mp3"}),
    ("secretsmanager", "get_secret_value", {"SecretId": DATABASE_SECRET}),
    ("ssm", "get_parameter", {"Name": f"{PARAMETER_PREFIX}/BUCKET"}),
]


def say(case: Any) -> str | None:
    return case if isinstance(case, str) else None


@pytest.mark.parametrize(("service", "method", "arguments"), APPLIANCE_MAY, ids=say)
def test_the_appliance_may(
    service: str, method: str, arguments: dict[str, Any], appliance_role: Client, names: dict[str, str]
) -> None:
    assert call(appliance_role, names, service, method, arguments) is None


@pytest.mark.parametrize(("service", "method", "arguments"), APPLIANCE_MUST_NOT, ids=say)
def test_the_appliance_must_not(
    service: str, method: str, arguments: dict[str, Any], appliance_role: Client, names: dict[str, str]
) -> None:
    assert call(appliance_role, names, service, method, arguments) in DENIALS


@pytest.mark.parametrize(("service", "method", "arguments"), FUNCTION_MAY, ids=say)
def test_the_autoscaler_may(
    service: str, method: str, arguments: dict[str, Any], function_role: Client, names: dict[str, str]
) -> None:
    assert call(function_role, names, service, method, arguments) is None


@pytest.mark.parametrize(("service", "method", "arguments"), FUNCTION_MUST_NOT, ids=say)
def test_the_autoscaler_must_not(
    service: str, method: str, arguments: dict[str, Any], function_role: Client, names: dict[str, str]
) -> None:
    assert call(function_role, names, service, method, arguments) in DENIALS


def test_a_call_without_tls_would_be_refused_by_bucket_and_queues(strict: Connection) -> None:
    bucket = strict.foundation["BucketName"]
    for document in (
        strict.s3.get_bucket_policy(Bucket=bucket)["Policy"],
        *(
            strict.sqs.get_queue_attributes(QueueUrl=strict.foundation[name], AttributeNames=["Policy"])[
                "Attributes"
            ]["Policy"]
            for name in ("QueueUrl", "DlqUrl")
        ),
    ):
        statements = json.loads(document)["Statement"]
        conditions = [s["Condition"] for s in statements if s["Effect"] == "Deny" and s["Principal"] == "*"]
        assert {"Bool": {"aws:SecureTransport": "false"}} in conditions
