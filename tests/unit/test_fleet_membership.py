"""A machine that leaves its fleet: the desired capacity goes down, and the lifecycle hook is completed."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from contracts.names import DRAIN_HOOK
from whisper_processor.aws.instance import Fleet, Machine

COMPLETION = {
    "AutoScalingGroupName": "fleet",
    "LifecycleHookName": DRAIN_HOOK,
    "InstanceId": "i-1",
    "LifecycleActionResult": "CONTINUE",
}


@pytest.fixture
def stub() -> Stubber:
    stub = Stubber(boto3.session.Session("x", "x", region_name="us-east-1").client("autoscaling"))
    stub.activate()
    return stub


def machine(stub: Stubber, waits: list[float]) -> Machine:
    client: Any = stub.client
    ec2: Any = None  # a fleet's machine does not stop itself
    return Machine(ec2, "i-1", Fleet(client, "fleet", waits.append))


def leaves(stub: Stubber) -> None:
    activity = {
        "ActivityId": "a",
        "AutoScalingGroupName": "fleet",
        "Cause": "x",
        "StartTime": "2026-03-02T08:00:00Z",
        "StatusCode": "InProgress",
    }
    stub.add_response(
        "terminate_instance_in_auto_scaling_group",
        {"Activity": activity},
        {"InstanceId": "i-1", "ShouldDecrementDesiredCapacity": True},
    )


def test_the_desired_capacity_goes_down_and_the_hook_is_completed_as_soon_as_it_waits(stub: Stubber) -> None:
    waits: list[float] = []
    leaves(stub)
    for _ in range(2):
        stub.add_client_error("complete_lifecycle_action", "ValidationError", "No active Lifecycle Action found")
    stub.add_response("complete_lifecycle_action", {}, COMPLETION)
    machine(stub, waits).leave()
    stub.assert_no_pending_responses()
    assert len(waits) == 2


def test_a_hook_that_never_waits_is_left_to_its_timeout(stub: Stubber) -> None:
    waits: list[float] = []
    for _ in range(50):
        stub.add_client_error("complete_lifecycle_action", "ValidationError", "No active Lifecycle Action found")
    assert machine(stub, waits).fleet.let_go("i-1") is False  # type: ignore[union-attr]
    assert 20 <= sum(waits) <= 60


def test_a_refusal_is_raised(stub: Stubber) -> None:
    leaves(stub)
    stub.add_client_error("complete_lifecycle_action", "AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        machine(stub, []).leave()
