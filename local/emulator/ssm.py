"""Run Command on the machine behind an instance. Without a machine the instance is not managed, as on AWS."""

from __future__ import annotations

from pathlib import Path

from ministack.services import ec2

from local.platform.channel import ChannelError, ask

_COMMAND_SECONDS = 3600.0  # AWS-RunShellScript's own default
_PING_SECONDS = 2.0


def managed(folder: Path, instance_id: str) -> bool:
    """Whether the supervisor has a machine behind the instance."""
    try:
        return bool(ask(folder, {"do": "ping", "instance": instance_id}, _PING_SECONDS)["managed"])
    except ChannelError:
        return False


def complete(folder: Path) -> None:
    def is_managed(instance_id: str) -> bool:
        instance = ec2._instances.get(instance_id)
        return bool(instance) and instance["State"]["Name"] == "running" and managed(folder, instance_id)

    def execute(instance_id: str, argv: list[str]) -> tuple[int, str, str]:
        request = {"do": "execute", "instance": instance_id, "script": argv[-1], "timeout": _COMMAND_SECONDS}
        try:
            answer = ask(folder, request, _COMMAND_SECONDS + 30)
        except ChannelError as error:
            return 255, "", str(error)
        return answer["exit_code"], answer["stdout"], answer["stderr"]

    ec2.instance_is_managed = is_managed
    ec2.exec_in_instance_blocking = execute
