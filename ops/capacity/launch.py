"""Launch the appliance, and set the alarm on its EC2 status checks."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping

from botocore.exceptions import ClientError

from contracts.names import PRODUCT
from contracts.tags import LAUNCHED_BY_TAG, ROLE_PROCESSOR, ROLE_TAG
from ops.aws.connection import Connection
from ops.errors import OpsError

Say = Callable[[str], None]
ALARM_PREFIX = f"{PRODUCT}-"
STATUS_CHECK_ALARM = f"{ALARM_PREFIX}status-check"


def launch(aws: Connection, say: Say) -> str:
    """Launch the appliance from the launch template, unless there is one; returns the instance's id.

    It boots, finds nothing to do and stops itself, which is its normal state.
    """
    instance = aws.find_instance()
    if instance is not None:
        say(f"appliance {instance['InstanceId']} is there ({instance['State']['Name']})")
        watch_status_checks(aws, instance["InstanceId"])
        return instance["InstanceId"]
    instance_id = run_appliance(aws, {})
    watch_status_checks(aws, instance_id)
    say(f"appliance {instance_id} launched; it stops itself when the queue is empty")
    return instance_id


def run_appliance(aws: Connection, more_tags: Mapping[str, str]) -> str:
    """Launch an instance of the template's newest version; returns its id. Raises OpsError when EC2 refuses."""
    tags = {
        ROLE_TAG: ROLE_PROCESSOR,
        "Name": PRODUCT,
        LAUNCHED_BY_TAG: getpass.getuser(),
        **more_tags,
    }
    try:
        answer = aws.ec2.run_instances(
            MinCount=1,
            MaxCount=1,
            LaunchTemplate={
                "LaunchTemplateId": aws.foundation["LaunchTemplateId"],
                "Version": "$Latest",
            },
            TagSpecifications=[
                {
                    "ResourceType": "instance",
                    "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
                }
            ],
        )
    except ClientError as error:
        raise OpsError(f"the appliance was not launched: {error.response['Error']['Message']}") from error
    return answer["Instances"][0]["InstanceId"]


def watch_status_checks(aws: Connection, instance_id: str) -> None:
    """Set the alarm on this instance's status checks. No template can: no stack knows the instance."""
    aws.cloudwatch.put_metric_alarm(
        AlarmName=STATUS_CHECK_ALARM,
        AlarmDescription="EC2's status check of the appliance fails. `make stop`, then `make start`.",
        Namespace="AWS/EC2",
        MetricName="StatusCheckFailed",
        Dimensions=[{"Name": "InstanceId", "Value": instance_id}],
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=3,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=0,
        TreatMissingData="notBreaching",
        AlarmActions=[aws.foundation["AlarmTopicArn"]],
    )
