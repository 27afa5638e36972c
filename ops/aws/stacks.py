"""Deploy a CloudFormation template and wait, saying what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from contracts.tags import STACK_TAG
from ops.aws.connection import Connection
from ops.errors import OpsError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import WaiterConfigTypeDef

_WAIT: WaiterConfigTypeDef = {"Delay": 2, "MaxAttempts": 600}


def deploy_stack(
    aws: Connection, name: str, template: Path, parameters: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Create or update the stack; without changes it stays as it is. Raises OpsError with the reason."""
    client = aws.cloudformation
    arguments: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": template.read_text(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": STACK_TAG, "Value": name}],
    }
    status = _status(aws, name)
    if status == "ROLLBACK_COMPLETE":  # its creation failed; such a stack can only be deleted
        delete_stack(aws, name, say)
        status = None
    exists = status is not None
    _change(aws, name, client.update_stack if exists else client.create_stack, arguments, say, exists=exists)


def change_parameters(aws: Connection, name: str, changed: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Change only these parameters of a stack that exists. Raises OpsError with the reason."""
    present = aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0].get("Parameters", [])
    kept = [p["ParameterKey"] for p in present if p["ParameterKey"] not in changed]
    arguments = {
        "StackName": name,
        "UsePreviousTemplate": True,
        "Parameters": [
            *({"ParameterKey": key, "UsePreviousValue": True} for key in kept),
            *({"ParameterKey": key, "ParameterValue": value} for key, value in changed.items()),
        ],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    _change(aws, name, aws.cloudformation.update_stack, arguments, say, exists=True)


def _change(
    aws: Connection,
    name: str,
    action: Callable[..., object],
    arguments: Mapping[str, Any],
    say: Callable[[str], None],
    *,
    exists: bool,
) -> None:
    try:
        action(**arguments)
        waiter = aws.cloudformation.get_waiter("stack_update_complete" if exists else "stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig=_WAIT)
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            say(f"{name}: nothing to change")
            return
        raise OpsError(f"stack {name} was refused: {error.response['Error']['Message']}") from error
    except WaiterError as error:
        raise OpsError(f"stack {name} failed: {_first_failure(aws, name)}") from error
    finally:
        aws.forget_outputs(name)
    say(f"{name}: {'updated' if exists else 'created'}")


def delete_stack(aws: Connection, name: str, say: Callable[[str], None]) -> None:
    if _status(aws, name) is None:
        return
    aws.cloudformation.delete_stack(StackName=name)
    aws.cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=_WAIT)
    aws.forget_outputs(name)
    say(f"{name}: deleted")


def _status(aws: Connection, name: str) -> str | None:
    try:
        return aws.cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _first_failure(aws: Connection, name: str) -> str:
    events = aws.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    for event in reversed(events):
        if event.get("ResourceStatus", "").endswith("_FAILED"):
            return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
    return "no failed resource was reported"
