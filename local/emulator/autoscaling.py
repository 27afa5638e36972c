"""Auto Scaling groups that have instances. Those of ministack hold ids that EC2 does not know, and ignore hooks.

Here a group launches through EC2 from its launch template, replaces what is lost, waits for its lifecycle hook
before it terminates an instance, and keeps a history of its activities. There is no timer: whatever is due is done
before and after each action of either service. Of several instance types the first is taken. There is no Spot
market.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ministack.services import autoscaling, ec2
from ministack.services.cloudformation import provisioners

from local.emulator import refresh
from local.emulator.activities import describe_activities
from local.emulator.groups import COUNTED, Group, Member, end, follow, group_of, is_true, launch, leave, lock

Params = dict[str, Any]
Action = Callable[[Params], Any]


def complete() -> None:
    """Replace the actions of ministack that do not behave as on AWS. Call it after `ec2.complete`."""
    actions: dict[str, Action] = autoscaling._ACTION_MAP
    provisioners._asg_fields = _fields_of(provisioners._asg_fields)
    provisioners._RESOURCE_HANDLERS["AWS::AutoScaling::AutoScalingGroup"]["delete"] = _delete_with_instances(
        provisioners._asg_delete
    )
    autoscaling._reconcile_instances = _reconcile
    actions |= {
        "SetDesiredCapacity": _set_desired,
        "TerminateInstanceInAutoScalingGroup": _terminate_in_group,
        "CompleteLifecycleAction": _complete_lifecycle_action,
        "SetInstanceProtection": _set_protection,
        "DescribeScalingActivities": describe_activities,
        "StartInstanceRefresh": refresh.start,
    }
    for name, action in list(actions.items()):
        actions[name] = _reconciled(action)
    for name in ("DescribeInstances", "DescribeInstanceStatus", "TerminateInstances"):
        ec2._ACTION_MAP[name] = _reconciled(ec2._ACTION_MAP[name])


def _reconciled(action: Action) -> Action:
    """Bring every group up to date before and after the action, so that its effect is visible at once."""

    def reconciled(params: Params) -> Any:
        _reconcile_all()
        answer = action(params)
        _reconcile_all()
        return answer

    return reconciled


def _reconcile_all() -> None:
    for group in list(autoscaling._asgs.values()):
        _reconcile(group)


def _reconcile(group: Group) -> None:
    with lock:
        group.setdefault("DesiredCapacity", group["MinSize"])
        group["DesiredCapacity"] = max(group["MinSize"], min(group["DesiredCapacity"], group["MaxSize"]))
        for member in list(group["Instances"]):
            follow(group, member)
        refresh.go_on(group)
        counted = [member for member in group["Instances"] if member["LifecycleState"] in COUNTED]
        for place in range(len(counted), group["DesiredCapacity"]):
            if time.time() >= group.get("_retry_at", 0.0):
                launch(group, place)
        for member in [m for m in counted if not m["ProtectedFromScaleIn"]][: _surplus(group, counted)]:
            leave(group, member, "a difference between desired and actual capacity")
        if len(counted) >= group["DesiredCapacity"]:
            group["_change"] = ""


def _surplus(group: Group, counted: list[Member]) -> int:
    return max(0, len(counted) - int(group["DesiredCapacity"]))


def _set_desired(params: Params) -> Any:
    group = autoscaling._asgs.get(autoscaling._p(params, "AutoScalingGroupName"))
    if group is None:
        return _refuse("AutoScalingGroup name not found - no such group")
    desired = int(autoscaling._p(params, "DesiredCapacity"))
    for limit, name, beyond in (
        ("MaxSize", "above max", desired > group["MaxSize"]),
        ("MinSize", "below min", desired < group["MinSize"]),
    ):
        if beyond:
            return _refuse(
                f"New SetDesiredCapacity value {desired} is {name} value {group[limit]} for the AutoScalingGroup."
            )
    change = f"changing the desired capacity from {group['DesiredCapacity']} to {desired}"
    group |= {"_change": f"a user request explicitly set group desired capacity {change}"}
    group["DesiredCapacity"] = desired
    return autoscaling._xml(200, "SetDesiredCapacityResponse", "")


def _terminate_in_group(params: Params) -> Any:
    instance_id = autoscaling._p(params, "InstanceId")
    found = group_of(instance_id)
    if found is None:
        text = f"Instance Id not found - No managed instance found for instance ID: {instance_id}"
        return _refuse(text)
    group, member = found
    with lock:
        if is_true(autoscaling._p(params, "ShouldDecrementDesiredCapacity")):
            if group["DesiredCapacity"] <= group["MinSize"]:
                return _refuse("Currently, desiredSize equals minSize. Terminating would violate the minimum size")
            group["DesiredCapacity"] -= 1
        if member["LifecycleState"] in COUNTED:
            leave(group, member, "a user request")
    return autoscaling._xml(
        200, "TerminateInstanceInAutoScalingGroupResponse", "<TerminateInstanceInAutoScalingGroupResult/>"
    )


def _complete_lifecycle_action(params: Params) -> Any:
    instance_id = autoscaling._p(params, "InstanceId")
    found = group_of(instance_id)
    if found is None or found[1]["LifecycleState"] != "Terminating:Wait":
        return _refuse(f"No active Lifecycle Action found with instance ID {instance_id}")
    with lock:
        end(*found)
    return autoscaling._xml(200, "CompleteLifecycleActionResponse", "<CompleteLifecycleActionResult/>")


def _set_protection(params: Params) -> Any:
    for instance_id in autoscaling._parse_member_list(params, "InstanceIds"):
        if found := group_of(instance_id):
            found[1]["ProtectedFromScaleIn"] = is_true(autoscaling._p(params, "ProtectedFromScaleIn"))
    return autoscaling._xml(200, "SetInstanceProtectionResponse", "<SetInstanceProtectionResult/>")


def _fields_of(fields: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A template without a desired capacity leaves it alone; ministack drops the mixed instances policy."""

    def of(properties: dict[str, Any]) -> dict[str, Any]:
        found = fields(properties)
        if "DesiredCapacity" not in properties:
            del found["DesiredCapacity"]
        return found | {"MixedInstancesPolicy": properties.get("MixedInstancesPolicy") or {}}

    return of


def _delete_with_instances(delete: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """CloudFormation terminates a group's instances when it deletes the group."""

    def deleted(physical_id: str, properties: Any) -> None:
        group = autoscaling._asgs.get(physical_id)
        with lock:
            for member in list(group["Instances"]) if group else []:
                leave(group, member, "the group's deletion", hook=False)
            delete(physical_id, properties)

    return deleted


def _refuse(message: str) -> Any:
    return autoscaling._error("ValidationError", message)
