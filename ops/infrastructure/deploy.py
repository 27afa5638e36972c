"""Deploy what the cloud needs: foundation, the appliance's settings, the appliance itself."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping

from botocore.exceptions import ClientError
from dotenv import dotenv_values
from pydantic import ValidationError

from contracts.capacity import CapacityMode
from contracts.names import PARAMETER_PREFIX
from contracts.tags import LAUNCHED_BY_TAG, ROLE_PROCESSOR, ROLE_TAG
from ops.aws.connection import Connection
from ops.aws.stacks import deploy_stack
from ops.capacity import fleet
from ops.errors import OpsError
from ops.images import bake
from ops.settings import REPOSITORY, Stack
from whisper_processor.settings import APPLIANCE_SETTINGS, Settings

Say = Callable[[str], None]

ALARM_PREFIX = "classreflect-whisper-"
STATUS_CHECK_ALARM = f"{ALARM_PREFIX}status-check"


def deploy_infra(aws: Connection, say: Say) -> None:
    settings = aws.settings
    if settings.capacity_mode is CapacityMode.INSTANCE:
        fleet.retire(aws, say)
    deploy_stack(aws, settings.foundation_stack, Stack.FOUNDATION.template, parameters(aws), say)
    if settings.capacity_mode is CapacityMode.FLEET:
        fleet.deploy(aws, say)


def parameters(aws: Connection) -> dict[str, str]:
    """The foundation stack's."""
    settings = aws.settings
    return settings.parameters(Stack.FOUNDATION) | {
        "ImageId": bake.image_id(aws),
        "VpcId": settings.vpc_id or aws.default_vpc(),
    }


def appliance_settings() -> dict[str, str]:
    """The settings in `.env` that are the appliance's."""
    return {
        name: value
        for name, value in dotenv_values(REPOSITORY / ".env").items()
        if name in APPLIANCE_SETTINGS and value
    }


def validate_settings(wanted: Mapping[str, str]) -> None:
    """Raises OpsError naming each invalid value."""
    stand_ins = {"queue_url": "-", "dlq_url": "-", "bucket": "-", "_env_file": None}
    try:
        Settings(**stand_ins, **{name.lower(): value for name, value in wanted.items()})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise OpsError(f"nothing was changed, these settings are wrong: {problems}") from error


def stored_settings(aws: Connection) -> dict[str, str]:
    """The appliance's settings as Parameter Store has them, without those the foundation stack writes."""
    pages = aws.ssm.get_paginator("get_parameters_by_path").paginate(Path=PARAMETER_PREFIX)
    present = {p["Name"].rsplit("/", 1)[-1]: p["Value"] for page in pages for p in page["Parameters"]}
    return {name: value for name, value in present.items() if name in APPLIANCE_SETTINGS}


def deploy_config(aws: Connection, wanted: Mapping[str, str], say: Say) -> None:
    """Make Parameter Store hold just `wanted`; an appliance reads it when its worker starts.

    Raises OpsError naming each invalid value before anything is written.
    """
    validate_settings(wanted)
    present = stored_settings(aws)
    for name, value in wanted.items():
        if present.get(name) != value:
            aws.ssm.put_parameter(Name=f"{PARAMETER_PREFIX}/{name}", Value=value, Type="String", Overwrite=True)
            say(f"setting {name}={value}")
    for name in set(present) - set(wanted):
        aws.ssm.delete_parameter(Name=f"{PARAMETER_PREFIX}/{name}")
        say(f"setting {name} is back to its default")


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
        "Name": "classreflect-whisper",
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
    """The one alarm that names the instance, which no stack knows. A new appliance takes it over."""
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
