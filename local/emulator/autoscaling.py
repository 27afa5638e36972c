"""Auto Scaling groups that have instances: ministack's keep ids EC2 does not know, and honour no hook.

Here a group launches through EC2 from its launch template, replaces what is lost, waits for its lifecycle hook
before it ends an instance, and keeps a history of its activities. What is due is done before each action of either
service, so no timer is needed: something always asks. Of several instance types the first is taken; there is no
Spot market.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from ministack.core.responses import new_uuid
from ministack.services import autoscaling, ec2
from ministack.services.cloudformation import provisioners

Params = dict[str, Any]
Action = Callable[[Params], Any]
Group = dict[str, Any]
Member = dict[str, Any]
GROUP_TAG = "aws:autoscaling:groupName"
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_COUNTED = ("Pending", "InService")
_LOST = ("stopping", "stopped", "shutting-down", "terminated")
_KEPT_ACTIVITIES = 100
_RETRY_SECONDS = 10.0
_lock = threading.RLock()


def complete() -> None:
    """Replace what of ministack's groups does not behave like AWS's. After `ec2.complete`, which this leans on."""
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
        "DescribeScalingActivities": _describe_activities,
        "StartInstanceRefresh": _start_refresh,
    }
    for name, action in list(actions.items()):
        actions[name] = _reconciled(action)
    for name in ("DescribeInstances", "DescribeInstanceStatus", "TerminateInstances"):
        ec2._ACTION_MAP[name] = _reconciled(ec2._ACTION_MAP[name])


def _reconciled(action: Action) -> Action:
    """Do what is due before and after: a change is visible at once, as far as it is one."""

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
    with _lock:
        group.setdefault("DesiredCapacity", group["MinSize"])
        group["DesiredCapacity"] = max(group["MinSize"], min(group["DesiredCapacity"], group["MaxSize"]))
        for member in list(group["Instances"]):
            _follow(group, member)
        _refresh(group)
        counted = [member for member in group["Instances"] if member["LifecycleState"] in _COUNTED]
        for place in range(len(counted), group["DesiredCapacity"]):
            if time.time() >= group.get("_retry_at", 0.0):
                _launch(group, place)
        for member in [m for m in counted if not m["ProtectedFromScaleIn"]][: _surplus(group, counted)]:
            _leave(group, member, "a difference between desired and actual capacity")
        if len(counted) >= group["DesiredCapacity"]:
            group["_change"] = ""


def _surplus(group: Group, counted: list[Member]) -> int:
    return max(0, len(counted) - int(group["DesiredCapacity"]))


def _follow(group: Group, member: Member) -> None:
    """Let one member's lifecycle catch up with its instance's state and with its hook."""
    instance = ec2._instances.get(member["InstanceId"])
    state = instance["State"]["Name"] if instance else "terminated"
    match member["LifecycleState"]:
        case "Pending" if state == "running":
            member["LifecycleState"] = "InService"
        case "Pending" | "InService" if state in _LOST:
            member["HealthStatus"] = "Unhealthy"
            _leave(group, member, "an EC2 health check indicating it has been terminated or stopped", hook=False)
            group["_change"] = group.get("_change") or "an unhealthy instance needing to be replaced"
        case "Terminating:Wait" if state in _LOST or time.time() >= member["_until"]:
            _end(group, member)


def _launch(group: Group, place: int) -> None:
    template, instance_type = _choice(group)
    before = set(ec2._instances)
    parameters = {f"LaunchTemplate.{key}": [str(value)] for key, value in template.items() if value}
    status, *_ = ec2._ACTION_MAP["RunInstances"](
        parameters
        | {"MinCount": ["1"], "MaxCount": ["1"]}
        | ({"InstanceType": [instance_type]} if instance_type else {})
    )
    if status != 200:
        group["_retry_at"] = time.time() + _RETRY_SECONDS
        _record(group, "Launching a new EC2 instance.", "a user request", "Failed", "EC2 refused the launch.")
        return
    (instance_id,) = set(ec2._instances) - before
    tags = ec2._tags.setdefault(instance_id, [])
    tags += [{"Key": t["Key"], "Value": t["Value"]} for t in group["Tags"] if t.get("PropagateAtLaunch")]
    tags.append({"Key": GROUP_TAG, "Value": group["AutoScalingGroupName"]})
    instance = ec2._instances[instance_id]
    group["Instances"].append(
        {
            "InstanceId": instance_id,
            "LifecycleState": "Pending",
            "HealthStatus": "Healthy",
            "AvailabilityZone": instance.get("Placement", {}).get("AvailabilityZone", "us-east-1a"),
            "ProtectedFromScaleIn": _true(group["NewInstancesProtectedFromScaleIn"]),
            "LaunchTemplate": template | {"Version": _version(template)},
            "LaunchConfigurationName": "",
        }
    )
    cause = group.get("_change") or "a difference between desired and actual capacity"
    growth = f"increasing the capacity from {place} to {place + 1}."
    _record(group, f"Launching a new EC2 instance: {instance_id}", f"{cause}, {growth}")


def _choice(group: Group) -> tuple[dict[str, str], str]:
    """Launch template and instance type of the next machine: of the mixed instances policy's first override."""
    policy = group.get("MixedInstancesPolicy") or {}
    if not policy:
        return group["LaunchTemplate"], ""
    specification = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
    override = next(iter(policy["LaunchTemplate"].get("Overrides") or [{}]))
    types = (override.get("InstanceRequirements") or {}).get("AllowedInstanceTypes") or []
    template = provisioners._asg_launch_template(override.get("LaunchTemplateSpecification") or specification)
    return template, str(override.get("InstanceType") or next(iter(types), ""))


def _version(template: dict[str, str]) -> str:
    record = ec2._launch_templates.get(template["LaunchTemplateId"]) or {}
    aliases = {"$Latest": record.get("LatestVersionNumber"), "$Default": record.get("DefaultVersionNumber")}
    return str(aliases.get(template["Version"]) or template["Version"])


def _leave(group: Group, member: Member, why: str, *, hook: bool = True) -> None:
    """Begin an instance's end: at once, or when its hook is completed or timed out."""
    waits = [each["HeartbeatTimeout"] for each in _hooks(group)] if hook else []
    member["_why"] = why
    if waits:
        member |= {"LifecycleState": "Terminating:Wait", "_until": time.time() + max(waits)}
    else:
        _end(group, member)


def _end(group: Group, member: Member) -> None:
    group["Instances"].remove(member)
    if member["InstanceId"] in ec2._instances:
        ec2._terminate_instances({"InstanceId.1": [member["InstanceId"]]})
    why = f"an instance was taken out of service in response to {member['_why']}."
    _record(group, f"Terminating EC2 instance: {member['InstanceId']}", why)


def _hooks(group: Group) -> Iterator[dict[str, Any]]:
    for hook in list(autoscaling._hooks.values()):
        wanted = (group["AutoScalingGroupName"], _TERMINATING)
        if (hook["AutoScalingGroupName"], hook["LifecycleTransition"]) == wanted:
            yield hook


def _record(group: Group, description: str, cause: str, status: str = "Successful", message: str = "") -> None:
    now = datetime.now(UTC).isoformat()
    activity = {
        "ActivityId": new_uuid(),
        "AutoScalingGroupName": group["AutoScalingGroupName"],
        "Description": description,
        "Cause": f"At {now} {cause}",
        "StartTime": now,
        "EndTime": now,
        "StatusCode": status,
        "StatusMessage": message,
        "Progress": 100,
    }
    activities = group.setdefault("Activities", [])
    activities.insert(0, activity)
    del activities[_KEPT_ACTIVITIES:]


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
    with _lock:
        if _true(autoscaling._p(params, "ShouldDecrementDesiredCapacity")):
            if group["DesiredCapacity"] <= group["MinSize"]:
                return _refuse("Currently, desiredSize equals minSize. Terminating would violate the minimum size")
            group["DesiredCapacity"] -= 1
        if member["LifecycleState"] in _COUNTED:
            _leave(group, member, "a user request")
    return autoscaling._xml(
        200, "TerminateInstanceInAutoScalingGroupResponse", "<TerminateInstanceInAutoScalingGroupResult/>"
    )


def group_of(instance_id: str) -> tuple[Group, Member] | None:
    for group in list(autoscaling._asgs.values()):
        for member in group["Instances"]:
            if member["InstanceId"] == instance_id:
                return group, member
    return None


def _complete_lifecycle_action(params: Params) -> Any:
    instance_id = autoscaling._p(params, "InstanceId")
    found = group_of(instance_id)
    if found is None or found[1]["LifecycleState"] != "Terminating:Wait":
        return _refuse(f"No active Lifecycle Action found with instance ID {instance_id}")
    with _lock:
        _end(*found)
    return autoscaling._xml(200, "CompleteLifecycleActionResponse", "<CompleteLifecycleActionResult/>")


def _set_protection(params: Params) -> Any:
    for instance_id in autoscaling._parse_member_list(params, "InstanceIds"):
        if found := group_of(instance_id):
            found[1]["ProtectedFromScaleIn"] = _true(autoscaling._p(params, "ProtectedFromScaleIn"))
    return autoscaling._xml(200, "SetInstanceProtectionResponse", "<SetInstanceProtectionResult/>")


def _describe_activities(params: Params) -> Any:
    group = autoscaling._asgs.get(autoscaling._p(params, "AutoScalingGroupName"))
    most = int(autoscaling._p(params, "MaxRecords") or _KEPT_ACTIVITIES)
    members = "".join(
        "<member>" + "".join(f"<{k}>{escape(str(v))}</{k}>" for k, v in activity.items() if v != "") + "</member>"
        for activity in (group or {}).get("Activities", [])[:most]
    )
    result = (
        f"<DescribeScalingActivitiesResult><Activities>{members}</Activities></DescribeScalingActivitiesResult>"
    )
    return autoscaling._xml(200, "DescribeScalingActivitiesResponse", result)


def _start_refresh(params: Params) -> Any:
    group = autoscaling._asgs.get(autoscaling._p(params, "AutoScalingGroupName"))
    if group is None:
        return _refuse("AutoScalingGroup name not found - no such group")
    refreshes = group.setdefault("InstanceRefreshes", [])
    if refreshes and refreshes[0]["Status"] == "InProgress":
        return autoscaling._error("InstanceRefreshInProgress", "An Instance Refresh is already in progress")
    refresh_id, now = new_uuid(), datetime.now(UTC).isoformat()
    outdated = len(_outdated(group))
    refreshes.insert(
        0,
        {
            "InstanceRefreshId": refresh_id,
            "AutoScalingGroupName": group["AutoScalingGroupName"],
            "Status": "InProgress",
            "StatusReason": "",
            "StartTime": now,
            "EndTime": now,
            "PercentageComplete": 0,
            "InstancesToUpdate": outdated,
            "_all": outdated,
        },
    )
    result = f"<InstanceRefreshId>{refresh_id}</InstanceRefreshId>"
    return autoscaling._xml(
        200, "StartInstanceRefreshResponse", f"<StartInstanceRefreshResult>{result}</StartInstanceRefreshResult>"
    )


def _outdated(group: Group) -> list[Member]:
    """Instances of another version of the template than the group's: SkipMatching is always on here."""
    template, _ = _choice(group)
    version = _version(template)
    return [member for member in group["Instances"] if member["LaunchTemplate"].get("Version") != version]


def _refresh(group: Group) -> None:
    """Replace one outdated instance after the other, each when the one before has its successor in service."""
    refresh = next(iter(group.get("InstanceRefreshes", [])), None)
    if refresh is None or refresh["Status"] != "InProgress":
        return
    outdated = _outdated(group)
    done = refresh["_all"] - len(outdated)
    refresh |= {
        "InstancesToUpdate": len(outdated),
        "PercentageComplete": 100 * done // max(1, refresh["_all"]),
    }
    if not outdated:
        refresh |= {"Status": "Successful", "PercentageComplete": 100, "EndTime": datetime.now(UTC).isoformat()}
    elif all(member["LifecycleState"] == "InService" for member in group["Instances"]):
        _leave(group, outdated[0], "an instance refresh")


def _fields_of(fields: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A template without a desired capacity leaves it alone; ministack drops the mixed instances policy."""

    def of(properties: dict[str, Any]) -> dict[str, Any]:
        found = fields(properties)
        if "DesiredCapacity" not in properties:
            del found["DesiredCapacity"]
        return found | {"MixedInstancesPolicy": properties.get("MixedInstancesPolicy") or {}}

    return of


def _delete_with_instances(delete: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """CloudFormation ends a group's instances with it."""

    def deleted(physical_id: str, properties: Any) -> None:
        group = autoscaling._asgs.get(physical_id)
        with _lock:
            for member in list(group["Instances"]) if group else []:
                _leave(group, member, "the group's deletion", hook=False)
            delete(physical_id, properties)

    return deleted


def _true(value: object) -> bool:
    return str(value).lower() == "true"


def _refuse(message: str) -> Any:
    return autoscaling._error("ValidationError", message)
