"""What EC2 does and ministack does not: transitional states and their reason, launch templates, reboots."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack.services import ec2

from local.platform.channel import ChannelError, ask

_CODES = {"pending": 0, "running": 16, "stopping": 64, "stopped": 80}
_SETTLES = {"pending": "running", "stopping": "stopped"}
Params = dict[str, Any]
Action = Callable[[Params], Any]
_REBOOT_SECONDS = 2.0


def _enter(instance: dict[str, Any], state: str, seconds: float = 0.0) -> None:
    instance["State"] = {"Code": _CODES[state], "Name": state}
    instance["_settles_at"] = time.time() + seconds
    if state == "stopping":
        at = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime())
        instance["StateTransitionReason"] = f"User initiated ({at})"
    elif state == "pending":
        instance.pop("StateTransitionReason", None)


def _settle() -> None:
    """End the transitions that are due. Called before each action, so that no timer is needed."""
    for instance in ec2._instances.all_values():
        state = instance["State"]["Name"]
        if state in _SETTLES and time.time() >= instance.get("_settles_at", 0.0):
            _enter(instance, _SETTLES[state])


def _targets(params: Params) -> list[dict[str, Any]]:
    ids = ec2._parse_member_list(params, "InstanceId")
    return [ec2._instances[i] for i in ids if i in ec2._instances]


def _change(action: Action, allowed: str, rest: str, transition: str, seconds: float) -> Action:
    """Start or stop. As on EC2: allowed in one state, nothing to do in another, refused in all others."""

    def changed(params: Params) -> Any:
        instances = _targets(params)
        for instance in instances:
            state = instance["State"]["Name"]
            if state not in {allowed, rest, transition}:
                verb = "started" if transition == "pending" else "stopped"
                text = f"The instance '{instance['InstanceId']}' is not in a state from which it can be {verb}."
                return ec2._error("IncorrectInstanceState", text, 400)
        moving = [i for i in instances if i["State"]["Name"] == allowed]
        untouched = {i["InstanceId"]: dict(i["State"]) for i in instances if i not in moving}
        answer = action(params)
        for instance in instances:
            if instance["InstanceId"] in untouched:
                instance["State"] = untouched[instance["InstanceId"]]
        for instance in moving:
            _enter(instance, transition, seconds)
            if transition == "pending":
                instance["LaunchTime"] = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return answer

    return changed


def _template(params: Params) -> dict[str, Any] | None:
    wanted = {
        "LaunchTemplateId": ec2._p(params, "LaunchTemplate.LaunchTemplateId"),
        "LaunchTemplateName": ec2._p(params, "LaunchTemplate.LaunchTemplateName"),
    }
    version = ec2._p(params, "LaunchTemplate.Version") or "$Default"
    for template in ec2._launch_templates.values():
        if any(value and template[name] == value for name, value in wanted.items()):
            aliases = {
                "$Default": template["DefaultVersionNumber"],
                "$Latest": template["LatestVersionNumber"],
            }
            number = int(aliases.get(version, version))
            for candidate in template["Versions"]:
                if candidate["VersionNumber"] == number:
                    data: dict[str, Any] = candidate["LaunchTemplateData"]
                    return data
    return None


def _run_instances(action: Action, seconds: float) -> Action:
    def run(params: Params) -> Any:
        template = None
        if any(name.startswith("LaunchTemplate.") for name in params):
            template = _template(params)
            if template is None:
                return ec2._error("InvalidLaunchTemplateId.NotFound", "The launch template does not exist", 400)
            params = _with_template(params, template)
        before = set(ec2._instances)
        answer = action(params)
        for instance_id in set(ec2._instances) - before:
            instance = ec2._instances[instance_id]
            _enter(instance, "pending", seconds)
            if template is not None:
                _apply_network_and_disks(instance, template)
        return answer

    return run


def _apply_network_and_disks(instance: dict[str, Any], template: dict[str, Any]) -> None:
    """What ministack's RunInstances does not take as parameters."""
    cards = template.get("NetworkInterfaces", [])
    if any(str(card.get("AssociatePublicIpAddress", "")).lower() == "false" for card in cards):
        instance |= {"PublicIpAddress": "", "PublicDnsName": ""}
    for wanted, attached in zip(
        template.get("BlockDeviceMappings", []), instance.get("BlockDeviceMappings", []), strict=False
    ):
        if size := wanted.get("Ebs", {}).get("VolumeSize"):
            ec2._volumes[attached["Ebs"]["VolumeId"]]["Size"] = int(size)


def _with_template(params: Params, template: dict[str, Any]) -> Params:
    """RunInstances' own parameters win over the template's, as on AWS."""
    defaults: Params = {}
    for name in ("ImageId", "InstanceType", "KeyName", "UserData"):
        if name in template:
            defaults[name] = [template[name]]
    groups = template.get("SecurityGroupIds") or [
        group for card in template.get("NetworkInterfaces", []) for group in card.get("Groups", [])
    ]
    for number, group in enumerate(groups, 1):
        defaults[f"SecurityGroupId.{number}"] = [group]
    for name, value in template.get("IamInstanceProfile", {}).items():
        defaults[f"IamInstanceProfile.{name}"] = [value]
    for number, specification in enumerate(template.get("TagSpecifications", []), 1):
        defaults[f"TagSpecification.{number}.ResourceType"] = [specification["ResourceType"]]
        for place, tag in enumerate(specification.get("Tags", []), 1):
            defaults[f"TagSpecification.{number}.Tag.{place}.Key"] = [tag["Key"]]
            defaults[f"TagSpecification.{number}.Tag.{place}.Value"] = [tag["Value"]]
    return defaults | params


def _settled(action: Action) -> Action:
    def settled(params: Params) -> Any:
        _settle()
        return action(params)

    return settled


def _with_reason(render: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    def rendered(instance: dict[str, Any]) -> str:
        reason = f"</instanceState><reason>{instance.get('StateTransitionReason', '')}</reason>"
        return render(instance).replace("</instanceState>", reason, 1)

    return rendered


def complete(folder: Path, pending: float, stopping: float) -> None:
    """Replace the actions of ministack's EC2 that do not behave as on AWS.

    `folder` holds the supervisor's socket. An instance takes `pending` seconds to start and `stopping` to stop.
    """
    actions: dict[str, Action] = ec2._ACTION_MAP
    ec2._instance_xml = _with_reason(ec2._instance_xml)
    actions["DescribeInstanceAttribute"] = _describe_attribute(actions["DescribeInstanceAttribute"])
    actions["RebootInstances"] = _reboot(actions["RebootInstances"], folder)
    actions["RunInstances"] = _run_instances(actions["RunInstances"], pending)
    actions["StartInstances"] = _change(actions["StartInstances"], "stopped", "running", "pending", pending)
    stop = _change(actions["StopInstances"], "running", "stopped", "stopping", stopping)
    actions["StopInstances"] = stop
    for name in (
        "DescribeInstances",
        "DescribeInstanceStatus",
        "RunInstances",
        "StartInstances",
        "StopInstances",
    ):
        if name in actions:
            actions[name] = _settled(actions[name])


def _describe_attribute(action: Action) -> Action:
    """ministack keeps an instance's user data but answers that there is none."""

    def describe(params: Params) -> Any:
        instance = ec2._instances.get(ec2._p(params, "InstanceId"))
        if instance is None or ec2._p(params, "Attribute") != "userData" or not instance.get("UserData"):
            return action(params)
        value = f"<userData><value>{instance['UserData']}</value></userData>"
        text = f"<instanceId>{instance['InstanceId']}</instanceId>{value}"
        return ec2._xml(200, "DescribeInstanceAttributeResponse", text)

    return describe


def _reboot(action: Action, folder: Path) -> Action:
    def reboot(params: Params) -> Any:
        answer = action(params)
        for instance in _targets(params):
            try:
                ask(folder, {"do": "reboot", "instance": instance["InstanceId"]}, _REBOOT_SECONDS)
            except ChannelError as error:
                print(f"{instance['InstanceId']} is not rebooted: {error}", file=sys.stderr)  # noqa: T201
        return answer

    return reboot
