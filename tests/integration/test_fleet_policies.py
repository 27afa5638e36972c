"""A fleet's policies, enforced: a lesson goes through with exactly them, and no other group is theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from contracts.jobs import JobStatus
from contracts.keys import Owner
from contracts.names import DRAIN_HOOK
from contracts.tags import HOLD_TAG
from ops.autoscaler import release
from ops.aws.connection import Connection
from ops.capacity import fleet
from ops.infrastructure import deploy, migrate
from ops.lessons import lesson
from ops.releases.settings import write_settings
from testbed.cloud import private_cloud, quiet
from testbed.system import FLEET_POLLS, fleet_settings
from tests.integration.test_policies import DENIALS, SAMPLE, Client, call, role_of, say

OTHERS = "backend-workers"


@pytest.fixture(scope="module")
def strict(models_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    with private_cloud(tmp_path_factory.mktemp("strict-fleet"), models_dir, strict=True) as cloud:
        aws = Connection(fleet_settings(cloud))
        deploy.deploy_infra(aws, quiet)
        migrate.migrate(aws.database())
        release.deploy(aws, quiet)
        write_settings(aws, FLEET_POLLS, quiet)
        yield aws


@pytest.fixture(scope="module")
def names(strict: Connection) -> dict[str, str]:
    """What the calls below name: the fleet's group, and a machine of another group of the account."""
    strict.autoscaling.create_auto_scaling_group(
        AutoScalingGroupName=OTHERS,
        MinSize=0,
        MaxSize=1,
        DesiredCapacity=1,
        LaunchTemplate={"LaunchTemplateId": strict.foundation["LaunchTemplateId"], "Version": "$Latest"},
        AvailabilityZones=["us-east-1a"],
    )
    found = strict.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[OTHERS])["AutoScalingGroups"][0]
    return {
        "group": fleet.group(strict)["AutoScalingGroupName"],
        "theirs": found["Instances"][0]["InstanceId"],
    }


@pytest.fixture(scope="module")
def appliance_role(strict: Connection) -> Client:
    return role_of(strict, "InstanceRole", strict.settings.foundation_stack)


@pytest.fixture(scope="module")
def function_role(strict: Connection) -> Client:
    return role_of(strict, "FunctionRole", strict.settings.autoscaler_stack)


def test_a_lesson_brings_a_machine_which_leaves_by_itself_under_exactly_these_policies(strict: Connection) -> None:
    job_id = lesson.submit(strict, SAMPLE, Owner(school_id=3, teacher_id=4), {})
    job = lesson.follow(strict, job_id, timeout=240)
    assert job.status is JobStatus.COMPLETED, job.error_message
    fleet.wait_for(strict, fleet.is_empty, 60, "an empty fleet")


def terminate(instance: str, *, decrement: bool = True) -> dict[str, Any]:
    return {"InstanceId": instance, "ShouldDecrementDesiredCapacity": decrement}


def complete(group: str) -> dict[str, Any]:
    return {
        "AutoScalingGroupName": group,
        "LifecycleHookName": DRAIN_HOOK,
        "InstanceId": "i-0123456789abcdef0",
        "LifecycleActionResult": "CONTINUE",
    }


def capacity(group: str, desired: int) -> dict[str, Any]:
    return {"AutoScalingGroupName": group, "DesiredCapacity": desired}


def hold(group: str) -> dict[str, Any]:
    tag = {"ResourceId": group, "ResourceType": "auto-scaling-group", "Key": HOLD_TAG, "Value": "x"}
    return {"Tags": [tag | {"PropagateAtLaunch": True}]}


APPLIANCE_MUST_NOT = [
    ("autoscaling", "terminate_instance_in_auto_scaling_group", terminate("<theirs>")),
    ("autoscaling", "complete_lifecycle_action", complete(OTHERS)),
    ("autoscaling", "set_desired_capacity", capacity("<group>", 1)),
    ("autoscaling", "set_desired_capacity", capacity(OTHERS, 0)),
    ("autoscaling", "create_or_update_tags", hold("<group>")),
    ("autoscaling", "delete_auto_scaling_group", {"AutoScalingGroupName": "<group>"}),
    ("autoscaling", "update_auto_scaling_group", {"AutoScalingGroupName": "<group>", "MaxSize": 100}),
]
FUNCTION_MAY = [
    ("autoscaling", "describe_auto_scaling_groups", {}),
    ("autoscaling", "describe_scaling_activities", {"AutoScalingGroupName": "<group>"}),
    ("autoscaling", "set_desired_capacity", capacity("<group>", 0)),
]
FUNCTION_MUST_NOT = [
    ("autoscaling", "set_desired_capacity", capacity(OTHERS, 0)),
    ("autoscaling", "terminate_instance_in_auto_scaling_group", terminate("<theirs>")),
    ("autoscaling", "complete_lifecycle_action", complete("<group>")),
    ("autoscaling", "update_auto_scaling_group", {"AutoScalingGroupName": "<group>", "MaxSize": 100}),
    ("autoscaling", "create_or_update_tags", hold("<group>")),
    ("autoscaling", "start_instance_refresh", {"AutoScalingGroupName": "<group>"}),
]


def test_the_appliance_may_complete_its_own_groups_hook(appliance_role: Client, names: dict[str, str]) -> None:
    refusal = call(appliance_role, names, "autoscaling", "complete_lifecycle_action", complete("<group>"))
    assert refusal == "ValidationError", "allowed, though nothing waits"


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
