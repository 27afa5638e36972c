"""Contracts with the emulator's Auto Scaling groups: what `local/emulator/autoscaling.py` adds to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from contracts.names import DRAIN_HOOK
from contracts.tags import GROUP_TAG, ROLE_PROCESSOR, ROLE_TAG
from ops.aws.connection import Connection
from ops.capacity import fleet
from ops.infrastructure import deploy
from ops.releases.settings import write_settings
from testbed.cloud import quiet
from testbed.system import FLEET_MAXIMUM, FLEET_POLLS
from testbed.waiting import wait_until


@pytest.fixture(scope="module")
def aws(fleet_deployed: Connection) -> Iterator[Connection]:
    """A fleet whose workers wait for ever, so that what happens to a machine is the group's doing."""
    write_settings(fleet_deployed, FLEET_POLLS | {"EMPTY_POLLS": "100000"}, quiet)
    yield fleet_deployed
    ask_for(fleet_deployed, 0)
    for member in fleet.group(fleet_deployed)["Instances"]:
        terminate(fleet_deployed, member["InstanceId"], decrement=False)
    fleet.wait_for(fleet_deployed, fleet.is_empty, 60, "an empty fleet")
    write_settings(fleet_deployed, FLEET_POLLS, quiet)


def name(aws: Connection) -> str:
    return fleet.group(aws)["AutoScalingGroupName"]


def ask_for(aws: Connection, desired: int) -> None:
    aws.autoscaling.set_desired_capacity(AutoScalingGroupName=name(aws), DesiredCapacity=desired)


def in_service(aws: Connection) -> list[str]:
    members = fleet.group(aws)["Instances"]
    return [member["InstanceId"] for member in members if member["LifecycleState"] == "InService"]


def settled(aws: Connection, desired: int) -> list[str]:
    ask_for(aws, desired)
    wait_until(f"{desired} in service", lambda: len(in_service(aws)) == desired)
    return in_service(aws)


def terminate(aws: Connection, instance_id: str, *, decrement: bool = True) -> None:
    aws.autoscaling.terminate_instance_in_auto_scaling_group(
        InstanceId=instance_id, ShouldDecrementDesiredCapacity=decrement
    )


def lifecycle(aws: Connection, instance_id: str) -> str | None:
    found = aws.autoscaling.describe_auto_scaling_instances(InstanceIds=[instance_id])["AutoScalingInstances"]
    return found[0]["LifecycleState"] if found else None


def state(aws: Connection, instance_id: str) -> str:
    answer = aws.ec2.describe_instances(InstanceIds=[instance_id])
    return str(answer["Reservations"][0]["Instances"][0]["State"]["Name"])


def test_a_group_starts_empty_and_says_its_limits(aws: Connection) -> None:
    found = fleet.group(aws)
    assert (found["MinSize"], found["MaxSize"], found["DesiredCapacity"]) == (0, FLEET_MAXIMUM, 0)


def test_instances_come_from_the_launch_template_with_tags_and_protection(aws: Connection) -> None:
    (instance_id,) = settled(aws, 1)
    (member,) = fleet.group(aws)["Instances"]
    assert member["ProtectedFromScaleIn"]
    instance = aws.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert (tags[GROUP_TAG], tags[ROLE_TAG]) == (name(aws), ROLE_PROCESSOR)
    assert instance["InstanceType"] == aws.settings.fleet_instance_types.split(",")[0]
    assert aws.foundation["InstanceProfileName"] in instance["IamInstanceProfile"]["Arn"]


def test_the_history_tells_a_raised_capacity(aws: Connection) -> None:
    settled(aws, 2)
    activities = aws.autoscaling.describe_scaling_activities(AutoScalingGroupName=name(aws))["Activities"]
    assert activities[0]["Description"].startswith("Launching a new EC2 instance")
    assert re.search(r"changing the desired capacity from 1 to 2", activities[0]["Cause"])


def test_a_protected_instance_outlives_a_lower_capacity(aws: Connection) -> None:
    before = settled(aws, 2)
    ask_for(aws, 0)
    assert in_service(aws) == before
    ask_for(aws, 2)


def test_no_more_than_the_maximum_can_be_asked_for(aws: Connection) -> None:
    with pytest.raises(ClientError, match="above max value"):
        ask_for(aws, FLEET_MAXIMUM + 1)


def test_a_machine_that_dies_is_replaced(aws: Connection) -> None:
    before = settled(aws, 2)
    aws.ec2.terminate_instances(InstanceIds=[before[0]])
    wait_until("a replacement", lambda: before[0] not in in_service(aws) and len(in_service(aws)) == 2)


def test_an_instance_that_leaves_takes_its_place_with_it_and_waits_for_its_hook(aws: Connection) -> None:
    instance_id = settled(aws, 2)[0]
    # Whatever waits for the worker: the worker itself lets go within some seconds.
    terminate(aws, instance_id)
    assert fleet.group(aws)["DesiredCapacity"] == 1
    assert lifecycle(aws, instance_id) == "Terminating:Wait"
    assert state(aws, instance_id) == "running"
    wait_until("the worker let go", lambda: lifecycle(aws, instance_id) is None)
    assert state(aws, instance_id) == "terminated"


def test_the_hook_is_completed_by_whoever_says_so_and_only_while_it_waits(aws: Connection) -> None:
    instance_id = settled(aws, 1)[0]
    completion: dict[str, Any] = {
        "AutoScalingGroupName": name(aws),
        "LifecycleHookName": DRAIN_HOOK,
        "InstanceId": instance_id,
        "LifecycleActionResult": "CONTINUE",
    }
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        aws.autoscaling.complete_lifecycle_action(**completion)
    terminate(aws, instance_id)
    aws.autoscaling.complete_lifecycle_action(**completion)
    assert lifecycle(aws, instance_id) is None


def test_the_hook_has_an_end(aws: Connection) -> None:
    group, hook = name(aws), aws.autoscaling.describe_lifecycle_hooks(AutoScalingGroupName=name(aws))
    (before,) = hook["LifecycleHooks"]
    transition = before["LifecycleTransition"]

    def put(seconds: int) -> None:
        aws.autoscaling.put_lifecycle_hook(
            AutoScalingGroupName=group,
            LifecycleHookName=DRAIN_HOOK,
            LifecycleTransition=transition,
            HeartbeatTimeout=seconds,
            DefaultResult="CONTINUE",
        )

    instance_id = settled(aws, 1)[0]
    put(1)
    try:
        terminate(aws, instance_id)
        wait_until("the hook timed out", lambda: lifecycle(aws, instance_id) is None, 4)
    finally:
        put(before["HeartbeatTimeout"])


def test_a_stack_update_leaves_the_desired_capacity_alone(aws: Connection) -> None:
    settled(aws, 1)
    fleet.deploy(Connection(aws.settings.model_copy(update={"fleet_maximum": 2})), quiet)
    try:
        found = fleet.group(aws)
        assert (found["DesiredCapacity"], found["MaxSize"]) == (1, 2)
    finally:
        fleet.deploy(aws, quiet)


def test_a_refresh_replaces_what_an_older_template_launched_and_nothing_else(aws: Connection) -> None:
    before = settled(aws, 2)
    fleet.replace(aws, quiet)
    assert in_service(aws) == before, "they are of the latest version"
    deploy.deploy_infra(Connection(aws.settings.model_copy(update={"instance_type": "c7a.large"})), quiet)
    try:
        fleet.replace(aws, quiet)
        wait_until("two new ones", lambda: len(in_service(aws)) == 2 and not set(before) & set(in_service(aws)))
    finally:
        deploy.deploy_infra(aws, quiet)
