"""The operator's verbs on a fleet, which is an EC2 Auto Scaling group, and the stack that contains it.

The group's lifecycle hook keeps a terminating machine up until its worker has finished its lesson or given it
back. So it is safe to ask the group to terminate a machine.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from contracts.capacity import CapacityMode
from contracts.names import DRAIN_HOOK_SECONDS
from contracts.tags import HOLD_TAG
from ops import waiting
from ops.aws.connection import Connection
from ops.aws.stacks import delete_stack, deploy_stack
from ops.capacity.holds import hold_from_now
from ops.errors import OpsError
from ops.settings import Stack

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.type_defs import (
        AutoScalingGroupTypeDef,
        InstanceRefreshTypeDef,
        InstanceTypeDef,
    )

Say = Callable[[str], None]
_SAY_SECONDS = 10.0
_UP_SECONDS = 600.0
_EMPTY_SECONDS = DRAIN_HOOK_SECONDS + 120.0
_RETIRING = timedelta(hours=1)
_REFRESH = timedelta(hours=1)
_REFRESHED = {"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"}


def deploy(aws: Connection, say: Say) -> None:
    """Create or update the group's stack, from the foundation's launch template as it is now."""
    deploy_stack(aws, aws.settings.fleet_stack, Stack.FLEET.template, parameters(aws), say)


def parameters(aws: Connection) -> dict[str, str]:
    """The parameters of the group's stack."""
    foundation = aws.foundation
    return aws.settings.parameters(Stack.FLEET) | {
        "LaunchTemplateId": foundation["LaunchTemplateId"],
        "LaunchTemplateVersion": foundation["LaunchTemplateVersion"],
        "InstanceRoleName": foundation["InstanceRoleArn"].rsplit("/", 1)[-1],
        "InstanceProfileName": foundation["InstanceProfileName"],
        "SecurityGroupId": foundation["SecurityGroupId"],
        "AlarmTopicArn": foundation["AlarmTopicArn"],
        "SubnetIds": ",".join(_subnets(aws)),
        "DrainSeconds": str(DRAIN_HOOK_SECONDS),
    }


def retire(aws: Connection, say: Say) -> None:
    """Drain the fleet's workers, then delete its stack. Does nothing when there is none."""
    if aws.stack_outputs(aws.settings.fleet_stack) is None:
        return
    if find_group(aws) is not None:
        say("the fleet's workers finish their lessons or give them back, then the fleet goes")
        hold(aws, _RETIRING, say)  # otherwise the autoscaler would add machines for what is given back
        _end_all(aws, say)
    delete_stack(aws, aws.settings.fleet_stack, say)


def autoscaler_parameters(aws: Connection) -> dict[str, str]:
    """The group as the autoscaler's stack needs it. Raises OpsError when the fleet is not deployed."""
    return {"GroupName": _name(aws)} if aws.settings.capacity_mode is CapacityMode.FLEET else {}


def launch(aws: Connection, say: Say) -> str:
    """Launch nothing, because the autoscaler does that. Returns the group's name."""
    found = group(aws)
    say(f"fleet {say_group(found)}; the autoscaler adds machines when lessons wait")
    for instance in aws.other_machines():
        say(
            f"the one appliance {instance['InstanceId']} ({instance['State']['Name']}) is left for the way back to"
            " CAPACITY_MODE=instance; it costs its disk"
        )
    return found["AutoScalingGroupName"]


def start(aws: Connection, hold_for: timedelta, say: Say) -> None:
    """Start one machine if there is none, and keep those that are up."""
    hold(aws, hold_for, say)
    found = group(aws)
    if found["DesiredCapacity"] == 0:
        aws.autoscaling.set_desired_capacity(
            AutoScalingGroupName=found["AutoScalingGroupName"], DesiredCapacity=1, HonorCooldown=False
        )
        say("one machine is asked for")
    wait_for(aws, lambda now: bool(_in_service(now)), _UP_SECONDS, "a machine in service", say)


def stop(aws: Connection, hold_for: timedelta, say: Say) -> None:
    """Drain each worker and terminate its machine; the hold keeps the fleet empty."""
    hold(aws, hold_for, say)
    _end_all(aws, say)
    say("the fleet is empty")


def hold(aws: Connection, duration: timedelta, say: Say) -> None:
    """Keep the autoscaler from adding machines, and workers from leaving an empty queue, until then."""
    value, until = hold_from_now(duration)
    name = _name(aws)
    aws.autoscaling.create_or_update_tags(
        Tags=[
            {
                "ResourceId": name,
                "ResourceType": "auto-scaling-group",
                "Key": HOLD_TAG,
                "Value": value,
                "PropagateAtLaunch": True,  # a worker sees it in its own instance's metadata
            }
        ]
    )
    if ids := _ids(aws):
        aws.ec2.create_tags(Resources=ids, Tags=[{"Key": HOLD_TAG, "Value": value}])
    say(f"the autoscaler leaves fleet {name} alone until {until}; `make resume` ends that")


def resume(aws: Connection, say: Say) -> None:
    name = _name(aws)
    aws.autoscaling.delete_tags(Tags=[{"ResourceId": name, "ResourceType": "auto-scaling-group", "Key": HOLD_TAG}])
    if ids := _ids(aws):
        aws.ec2.delete_tags(Resources=ids, Tags=[{"Key": HOLD_TAG}])
    say(f"the autoscaler looks after fleet {name} again")


def replace(aws: Connection, say: Say, timeout: timedelta = _REFRESH) -> None:
    """Replace machines of an older launch template, a few at a time, each once its worker has drained.

    Seldom needed: a fleet scales in to zero by itself, and later machines are new. Raises OpsError when the
    refresh does not succeed in time.
    """
    name = _name(aws)
    refresh = aws.autoscaling.start_instance_refresh(
        AutoScalingGroupName=name,
        Strategy="Rolling",
        # Scale-in protection would block the refresh; the lifecycle hook lets a worker finish its lesson.
        Preferences={
            "MinHealthyPercentage": 50,
            "InstanceWarmup": 0,
            "SkipMatching": True,
            "ScaleInProtectedInstances": "Refresh",
        },
    )["InstanceRefreshId"]
    tell = waiting.say_changes(say)

    def ended() -> InstanceRefreshTypeDef | None:
        found = aws.autoscaling.describe_instance_refreshes(
            AutoScalingGroupName=name, InstanceRefreshIds=[refresh]
        )["InstanceRefreshes"][0]
        tell(f"instance refresh {found['Status']}, {found.get('PercentageComplete', 0)} %")
        return found if found["Status"] in _REFRESHED else None

    try:
        result = waiting.wait_for(ended, timeout.total_seconds())
    except waiting.TooLong:
        raise OpsError(f"the instance refresh of {name} has not ended: see `make status`") from None
    if result["Status"] != "Successful":
        raise OpsError(
            f"the instance refresh of {name} {result['Status']}: {result.get('StatusReason', 'no reason given')}"
        )


def group(aws: Connection) -> AutoScalingGroupTypeDef:
    """Raises OpsError when it is not deployed."""
    found = find_group(aws)
    if found is None:
        raise OpsError("there is no fleet: run `make deploy-infra deploy-lambda`")
    return found


def find_group(aws: Connection) -> AutoScalingGroupTypeDef | None:
    outputs = aws.stack_outputs(aws.settings.fleet_stack)
    if outputs is None:
        return None
    answer = aws.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[outputs["GroupName"]])
    return next(iter(answer["AutoScalingGroups"]), None)


def tags_of_group(found: AutoScalingGroupTypeDef) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in found.get("Tags", [])}


def say_group(found: AutoScalingGroupTypeDef) -> str:
    states = [member["LifecycleState"] for member in found["Instances"]]
    counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states))) or "no machines"
    return f"{found['AutoScalingGroupName']}: desired {found['DesiredCapacity']} of {found['MaxSize']}, {counted}"


def wait_for(
    aws: Connection,
    true: Callable[[AutoScalingGroupTypeDef], bool],
    timeout: float,
    what: str,
    say: Say = lambda _text: None,
) -> None:
    """Wait until the group is as asked for, saying each change. Raises OpsError after `timeout` seconds."""
    text, tell = "", waiting.say_changes(say, _SAY_SECONDS)

    def reached() -> bool:
        nonlocal text
        now = group(aws)
        text = say_group(now)
        tell(text)
        return true(now)

    try:
        waiting.wait_until(reached, timeout)
    except waiting.TooLong:
        raise OpsError(f"not within {timeout:.0f} s: {what} ({text}): run `make status`") from None


def is_empty(now: AutoScalingGroupTypeDef) -> bool:
    return now["DesiredCapacity"] == 0 and not now["Instances"]


def _end_all(aws: Connection, say: Say) -> None:
    """Terminate each machine once its worker has drained, and wait until all are gone."""
    found = group(aws)
    # First, so that no terminated machine is replaced. Machines in service are protected from this change.
    aws.autoscaling.set_desired_capacity(
        AutoScalingGroupName=found["AutoScalingGroupName"], DesiredCapacity=0, HonorCooldown=False
    )
    for member in group(aws)["Instances"]:
        if not member["LifecycleState"].startswith("Terminat"):
            _terminate(aws, member["InstanceId"])
    wait_for(aws, is_empty, _EMPTY_SECONDS, "an empty fleet", say)


def _terminate(aws: Connection, instance_id: str) -> None:
    try:
        aws.autoscaling.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=False
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":  # it has terminated itself meanwhile
            raise


def _in_service(now: AutoScalingGroupTypeDef) -> list[InstanceTypeDef]:
    return [member for member in now["Instances"] if member["LifecycleState"] == "InService"]


def _ids(aws: Connection) -> list[str]:
    return [member["InstanceId"] for member in group(aws)["Instances"]]


def _name(aws: Connection) -> str:
    return group(aws)["AutoScalingGroupName"]


def _subnets(aws: Connection) -> list[str]:
    """The subnets named in .env, else the default subnets of the VPC, one in each zone."""
    settings = aws.settings
    if named := settings.fleet_subnet_ids or settings.subnet_id:
        return [each.strip() for each in named.split(",")]
    vpc = settings.vpc_id or aws.default_vpc()
    found = aws.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"]
    ids = sorted(subnet["SubnetId"] for subnet in found if subnet.get("DefaultForAz"))
    if not ids:
        raise OpsError(f"{vpc} has no default subnets: set FLEET_SUBNET_IDS in .env")
    return ids
