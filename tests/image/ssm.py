"""testinfra over SSM Run Command: the appliance on AWS lets nobody in by SSH."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from testinfra.backend.base import BaseBackend, CommandResult

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

_TIMEOUT_SECONDS = 300
_MOST_OUTPUT = 24_000  # characters that GetCommandInvocation returns
_ENDED = {"Success", "Failed", "TimedOut", "Cancelled"}


class SsmBackend(BaseBackend):
    NAME = "ssm"

    def __init__(self, client: SSMClient, instance_id: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(instance_id, *args, **kwargs)
        self._client = client
        self._instance_id = instance_id

    def run(self, command: str, *args: str, **_kwargs: Any) -> CommandResult:
        """Raises TimeoutError when the command does not end."""
        script = self.get_command(command, *args)
        sent = self._client.send_command(
            InstanceIds=[self._instance_id],
            DocumentName="AWS-RunShellScript",
            Parameters={"commands": [script], "executionTimeout": [str(_TIMEOUT_SECONDS)]},
        )["Command"]["CommandId"]
        deadline = time.monotonic() + _TIMEOUT_SECONDS + 30
        while time.monotonic() < deadline:
            try:
                found = self._client.get_command_invocation(CommandId=sent, InstanceId=self._instance_id)
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvocationDoesNotExist":  # it takes a moment to be known
                    raise
            else:
                if found["Status"] in _ENDED:
                    if len(found["StandardOutputContent"]) >= _MOST_OUTPUT:
                        raise ValueError(f"SSM cuts off what a command prints, and this one prints more: {script}")
                    return self.result(
                        found["ResponseCode"],
                        self.encode(script),
                        found["StandardOutputContent"],
                        found["StandardErrorContent"],
                    )
            time.sleep(0.3)
        raise TimeoutError(f"on {self._instance_id}, still running: {script}")
