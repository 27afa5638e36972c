"""Start ministack with what it lacks of EC2: transitional states, launch templates, machines that run commands.

Runs in the emulator's own venv, so of the project it imports `local.channel` alone, which needs nothing else.
`PENDING_SECONDS` and `STOPPING_SECONDS` say how long an instance takes to start and to stop.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ministack import app
from ministack.services import ec2

sys.path.append(str(Path(__file__).resolve().parent.parent))
from local.channel import ChannelError, ask  # found by the line above

_CODES = {"pending": 0, "running": 16, "stopping": 64, "stopped": 80}
_SETTLES = {"pending": "running", "stopping": "stopped"}
Params = dict[str, Any]
Action = Callable[[Params], Any]
_COMMAND_SECONDS = 3600.0  # AWS-RunShellScript's own default
_PING_SECONDS = 2.0


def _enter(instance: dict[str, Any], state: str, seconds: float = 0.0) -> None:
    instance["State"] = {"Code": _CODES[state], "Name": state}
    instance["_settles_at"] = time.time() + seconds


def _settle() -> None:
    """End the transitions that are due; done before each action, so no timer is needed."""
    for instance in ec2._instances.all_values():
        state = instance["State"]["Name"]
        if state in _SETTLES and time.time() >= instance.get("_settles_at", 0.0):
            _enter(instance, _SETTLES[state])


def _targets(params: Params) -> list[dict[str, Any]]:
    ids = ec2._parse_member_list(params, "InstanceId")
    return [ec2._instances[i] for i in ids if i in ec2._instances]


def _change(action: Action, allowed: str, rest: str, transition: str, seconds: float) -> Action:
    """Start or stop: allowed in one state, nothing to do in another, refused in all others, as EC2 does."""

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
        if any(name.startswith("LaunchTemplate.") for name in params):
            template = _template(params)
            if template is None:
                return ec2._error("InvalidLaunchTemplateId.NotFound", "The launch template does not exist", 400)
            params = _with_template(params, template)
        before = set(ec2._instances)
        answer = action(params)
        for instance_id in set(ec2._instances) - before:
            _enter(ec2._instances[instance_id], "pending", seconds)
        return answer

    return run


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


def complete_ec2(actions: dict[str, Action], pending: float, stopping: float) -> None:
    """Replace the handlers of ministack's EC2 whose behaviour differs from AWS's."""
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


def _reboot(action: Action, folder: Path) -> Action:
    def reboot(params: Params) -> Any:
        answer = action(params)
        for instance in _targets(params):
            try:
                ask(folder, {"do": "reboot", "instance": instance["InstanceId"]}, _PING_SECONDS)
            except ChannelError as error:
                print(f"{instance['InstanceId']} is not rebooted: {error}", file=sys.stderr)  # noqa: T201
        return answer

    return reboot


def connect_ssm(folder: Path) -> None:
    """Route Run Command to the machine behind an instance; without one the instance is not managed, as on AWS."""

    def is_managed(instance_id: str) -> bool:
        instance = ec2._instances.get(instance_id)
        if not instance or instance["State"]["Name"] != "running":
            return False
        try:
            return bool(ask(folder, {"do": "ping", "instance": instance_id}, _PING_SECONDS)["managed"])
        except ChannelError:
            return False

    def execute(instance_id: str, argv: list[str]) -> tuple[int, str, str]:
        request = {"do": "execute", "instance": instance_id, "script": argv[-1], "timeout": _COMMAND_SECONDS}
        try:
            answer = ask(folder, request, _COMMAND_SECONDS + 30)
        except ChannelError as error:
            return 255, "", str(error)
        return answer["exit_code"], answer["stdout"], answer["stderr"]

    ec2.instance_is_managed = is_managed
    ec2.exec_in_instance_blocking = execute


if __name__ == "__main__":
    cloud_folder = Path.cwd()
    connect_ssm(cloud_folder)
    ec2._ACTION_MAP["RebootInstances"] = _reboot(ec2._ACTION_MAP["RebootInstances"], cloud_folder)
    complete_ec2(
        ec2._ACTION_MAP,
        pending=float(os.environ.get("PENDING_SECONDS", "2")),
        stopping=float(os.environ.get("STOPPING_SECONDS", "2")),
    )
    app.main()
