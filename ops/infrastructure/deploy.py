"""Deploy the foundation stack, and the fleet's stack when there is one."""

from __future__ import annotations

from collections.abc import Callable

from contracts.capacity import CapacityMode
from ops.aws.connection import Connection
from ops.aws.stacks import deploy_stack
from ops.capacity import fleet
from ops.capacity.image import image_id
from ops.settings import Stack

Say = Callable[[str], None]


def deploy_infra(aws: Connection, say: Say) -> None:
    settings = aws.settings
    if settings.capacity_mode is CapacityMode.INSTANCE:
        fleet.retire(aws, say)
    deploy_stack(aws, settings.foundation_stack, Stack.FOUNDATION.template, parameters(aws), say)
    if settings.capacity_mode is CapacityMode.FLEET:
        fleet.deploy(aws, say)


def parameters(aws: Connection) -> dict[str, str]:
    """The foundation stack's parameters."""
    settings = aws.settings
    return settings.parameters(Stack.FOUNDATION) | {
        "ImageId": image_id(aws),
        "VpcId": settings.vpc_id or aws.default_vpc(),
    }
