"""Commands on the appliance through SSM Run Command: no SSH, no open port."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import ClientError

from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.waiting import Tell, TooLong, wait_for, wait_until

_ENDED = {"Success", "Failed", "Cancelled", "TimedOut", "Undeliverable", "Terminated"}


class NotReachable(OpsError):
    """SSM does not reach the machine: it is stopped, or its agent is not up (yet)."""


@dataclass(frozen=True)
class Execution:
    """How a command ended. SSM keeps the first 24,000 characters of each output."""

    succeeded: bool
    status: str
    stdout: str
    stderr: str


def is_online(aws: Connection, instance_id: str) -> bool:
    pages = aws.ssm.get_paginator("describe_instance_information").paginate(
        Filters=[{"Key": "InstanceIds", "Values": [instance_id]}]
    )
    found = [i for page in pages for i in page["InstanceInformationList"] if i["InstanceId"] == instance_id]
    return bool(found) and found[0]["PingStatus"] == "Online"


def wait_online(aws: Connection, instance_id: str, timeout: float) -> None:
    """Wait until SSM reaches a machine that has just booted. Raises NotReachable after `timeout` seconds."""
    try:
        wait_until(lambda: is_online(aws, instance_id), timeout)
    except TooLong:
        raise NotReachable(f"SSM does not reach {instance_id}: run `make doctor`") from None


def execute(
    aws: Connection,
    instance_id: str,
    script: str,
    timeout: float,
    tell: Tell = lambda _seconds: None,
) -> Execution:
    """Run a shell script as root and wait for its end; `tell` hears the seconds so far.

    Raises NotReachable when the machine does not take commands, OpsError after `timeout` seconds.
    """
    try:
        sent = aws.ssm.send_command(
            InstanceIds=[instance_id],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": script.splitlines(), "executionTimeout": [str(max(30, int(timeout)))]},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidInstanceId":
            raise NotReachable(f"SSM does not reach {instance_id}: run `make doctor`") from error
        raise
    command = sent["Command"]["CommandId"]
    try:
        return wait_for(lambda: _ended(aws, command, instance_id), timeout, tell)
    except TooLong:
        raise OpsError(
            f"the command on {instance_id} has not ended after {timeout:.0f} s: see `make doctor`"
        ) from None


def _ended(aws: Connection, command: str, instance_id: str) -> Execution | None:
    try:
        found = aws.ssm.get_command_invocation(CommandId=command, InstanceId=instance_id)
    except aws.ssm.exceptions.InvocationDoesNotExist:
        return None  # SSM shows it a moment after it was sent
    if found["Status"] not in _ENDED:
        return None
    return Execution(
        succeeded=found["Status"] == "Success",
        status=found["Status"],
        stdout=found["StandardOutputContent"],
        stderr=found["StandardErrorContent"],
    )
