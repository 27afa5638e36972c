"""A group's instances from launch to termination."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from ministack.services import autoscaling, ec2
from ministack.services.cloudformation import provisioners

from contracts.tags import GROUP_TAG
from local.emulator.activities import record

Group = dict[str, Any]
Member = dict[str, Any]
COUNTED = ("Pending", "InService")
_TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
_LOST = ("stopping", "stopped", "shutting-down", "terminated")
_RETRY_SECONDS = 10.0
lock = threading.RLock()


def launch(group: Group, place: int) -> None:
    """Launch one more instance. `place` is how many there are, for the activity's text."""
    template, instance_type = choice(group)
    before = set(ec2._instances)
    parameters = {f"LaunchTemplate.{key}": [str(value)] for key, value in template.items() if value}
    status, *_ = ec2._ACTION_MAP["RunInstances"](
        parameters
        | {"MinCount": ["1"], "MaxCount": ["1"]}
        | ({"InstanceType": [instance_type]} if instance_type else {})
    )
    if status != 200:
        group["_retry_at"] = time.time() + _RETRY_SECONDS
        record(group, "Launching a new EC2 instance.", "a user request", "Failed", "EC2 refused the launch.")
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
            "ProtectedFromScaleIn": is_true(group["NewInstancesProtectedFromScaleIn"]),
            "LaunchTemplate": template | {"Version": version(template)},
            "LaunchConfigurationName": "",
        }
    )
    cause = group.get("_change") or "a difference between desired and actual capacity"
    growth = f"increasing the capacity from {place} to {place + 1}."
    record(group, f"Launching a new EC2 instance: {instance_id}", f"{cause}, {growth}")


def choice(group: Group) -> tuple[dict[str, str], str]:
    """Launch template and type of the next instance: those of the mixed instances policy's first override."""
    policy = group.get("MixedInstancesPolicy") or {}
    if not policy:
        return group["LaunchTemplate"], ""
    specification = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
    override = next(iter(policy["LaunchTemplate"].get("Overrides") or [{}]))
    types = (override.get("InstanceRequirements") or {}).get("AllowedInstanceTypes") or []
    template = provisioners._asg_launch_template(override.get("LaunchTemplateSpecification") or specification)
    return template, str(override.get("InstanceType") or next(iter(types), ""))


def version(template: dict[str, str]) -> str:
    stored = ec2._launch_templates.get(template["LaunchTemplateId"]) or {}
    aliases = {"$Latest": stored.get("LatestVersionNumber"), "$Default": stored.get("DefaultVersionNumber")}
    return str(aliases.get(template["Version"]) or template["Version"])


def follow(group: Group, member: Member) -> None:
    """Bring one member's lifecycle state up to date with its instance's state and its hook."""
    instance = ec2._instances.get(member["InstanceId"])
    state = instance["State"]["Name"] if instance else "terminated"
    match member["LifecycleState"]:
        case "Pending" if state == "running":
            member["LifecycleState"] = "InService"
        case "Pending" | "InService" if state in _LOST:
            member["HealthStatus"] = "Unhealthy"
            leave(group, member, "an EC2 health check indicating it has been terminated or stopped", hook=False)
            group["_change"] = group.get("_change") or "an unhealthy instance needing to be replaced"
        case "Terminating:Wait" if state in _LOST or time.time() >= member["_until"]:
            end(group, member)


def leave(group: Group, member: Member, why: str, *, hook: bool = True) -> None:
    """Terminate an instance at once, or when its hook is completed or has timed out."""
    waits = [each["HeartbeatTimeout"] for each in _hooks(group)] if hook else []
    member["_why"] = why
    if waits:
        member |= {"LifecycleState": "Terminating:Wait", "_until": time.time() + max(waits)}
    else:
        end(group, member)


def end(group: Group, member: Member) -> None:
    group["Instances"].remove(member)
    if member["InstanceId"] in ec2._instances:
        ec2._terminate_instances({"InstanceId.1": [member["InstanceId"]]})
    why = f"an instance was taken out of service in response to {member['_why']}."
    record(group, f"Terminating EC2 instance: {member['InstanceId']}", why)


def _hooks(group: Group) -> Iterator[dict[str, Any]]:
    for hook in list(autoscaling._hooks.values()):
        wanted = (group["AutoScalingGroupName"], _TERMINATING)
        if (hook["AutoScalingGroupName"], hook["LifecycleTransition"]) == wanted:
            yield hook


def group_of(instance_id: str) -> tuple[Group, Member] | None:
    for group in list(autoscaling._asgs.values()):
        for member in group["Instances"]:
            if member["InstanceId"] == instance_id:
                return group, member
    return None


def is_true(value: object) -> bool:
    return str(value).lower() == "true"
