"""The two ways of running the system."""

from enum import StrEnum


class CapacityMode(StrEnum):
    """The setting CAPACITY_MODE."""

    INSTANCE = "instance"
    """One appliance, started and stopped."""
    FLEET = "fleet"
    """An EC2 Auto Scaling group: the autoscaler adds machines, and each leaves by itself."""
