"""Deploy a CloudFormation template and wait, saying what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, WaiterError

from ops.connection import Connection
from ops.errors import OpsError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import WaiterConfigTypeDef

_WAIT: WaiterConfigTypeDef = {"Delay": 2, "MaxAttempts": 600}


def deploy_stack(
    cloud: Connection, name: str, template: Path, parameters: Mapping[str, str], say: Callable[[str], None]
) -> None:
    """Create or update; a stack with nothing to change is left as it is. Raises OpsError with the reason."""
    client = cloud.cloudformation
    arguments = {
        "StackName": name,
        "TemplateBody": template.read_text(),
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": "classreflect:stack", "Value": name}],
    }
    status = _status(cloud, name)
    if status == "ROLLBACK_COMPLETE":  # its creation failed; such a stack can only be deleted
        delete_stack(cloud, name, say)
        status = None
    exists = status is not None
    try:
        if exists:
            client.update_stack(**arguments)  # type: ignore[arg-type]
        else:
            client.create_stack(**arguments)  # type: ignore[arg-type]
        waiter = client.get_waiter("stack_update_complete" if exists else "stack_create_complete")
        waiter.wait(StackName=name, WaiterConfig=_WAIT)
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            say(f"{name}: nothing to change")
            return
        raise OpsError(f"stack {name} was refused: {error.response['Error']['Message']}") from error
    except WaiterError as error:
        raise OpsError(f"stack {name} failed: {_first_failure(cloud, name)}") from error
    say(f"{name}: {'updated' if exists else 'created'}")


def delete_stack(cloud: Connection, name: str, say: Callable[[str], None]) -> None:
    if _status(cloud, name) is None:
        return
    cloud.cloudformation.delete_stack(StackName=name)
    cloud.cloudformation.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=_WAIT)
    say(f"{name}: deleted")


def _status(cloud: Connection, name: str) -> str | None:
    try:
        return cloud.cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _first_failure(cloud: Connection, name: str) -> str:
    events = cloud.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    for event in reversed(events):
        if event.get("ResourceStatus", "").endswith("_FAILED"):
            return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
    return "no failed resource was reported"
