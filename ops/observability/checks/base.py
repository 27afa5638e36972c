"""What a check is given, how it reports, and what the checks of all paths share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ops.aws import run_command
from ops.aws.connection import Connection

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

_COMMAND_SECONDS = 120.0


@dataclass(frozen=True)
class Context:
    aws: Connection
    now: datetime


Step = Callable[[Context], str]
"""Makes a check and says what it found. Raises Wrong or Skip."""


class Wrong(Exception):
    """What is wrong, and the command that fixes it."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


class Skip(Exception):
    """Why the check cannot be made now."""


def running_instance(context: Context) -> InstanceTypeDef:
    """Raises Skip when the appliance does not run."""
    instance = context.aws.find_instance()
    if instance is None or instance["State"]["Name"] != "running":
        state = instance["State"]["Name"] if instance else "not there"
        raise Skip(f"the appliance is {state}, as it is without work; `make start` lets this be looked at")
    return instance


def on_machine(context: Context, script: str) -> run_command.Execution:
    return run_command.execute(context.aws, running_instance(context)["InstanceId"], script, _COMMAND_SECONDS)
