"""What it costs, from the price table beside this module."""

from __future__ import annotations

import tomllib
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from contracts.metrics import INSTANCE_RUNNING, NAMESPACE
from ops.aws import metrics
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.settings import REPOSITORY

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, VolumeTypeDef

HOURS_A_MONTH = 730
_RUNNING = metrics.Metric(NAMESPACE, INSTANCE_RUNNING, {})


class Estimate(BaseModel):
    """Of the month so far."""

    usd: float
    hours_up: float
    disk_gib: int
    source: str


def hourly_price(instance_type: str) -> float:
    """US dollars an hour, on demand. Raises OpsError for a type the table does not have."""
    prices = _prices()["on_demand_usd_per_hour"]
    if instance_type not in prices:
        raise OpsError(f"no price for {instance_type!r} in ops/prices.toml; it has {', '.join(sorted(prices))}")
    return float(prices[instance_type])


def cost_usd(seconds: float, instance_type: str) -> float:
    """EC2 bills Linux by the second, at least a minute for each start."""
    return max(60.0, seconds) / 3600 * hourly_price(instance_type)


def vcpus(instance_type: str) -> int:
    """As EC2 counts them against its quotas. Raises OpsError for a type the table does not have."""
    return int(_processor(instance_type)["vcpus"])


def instructions(instance_type: str) -> str:
    """What its processor offers, in the table's words. Raises OpsError for a type the table does not have."""
    return str(_processor(instance_type)["instructions"])


def _processor(instance_type: str) -> dict[str, Any]:
    processors: dict[str, dict[str, Any]] = _prices()["processors"]
    if instance_type not in processors:
        raise OpsError(
            f"no processor of {instance_type!r} in ops/prices.toml; it has {', '.join(sorted(processors))}"
        )
    return processors[instance_type]


def disk_usd_per_gib_month() -> float:
    return float(_prices()["gp3_usd_per_gib_month"])


def month_to_date(aws: Connection, instance_type: str, instance_id: str | None, now: datetime) -> Estimate:
    """From the autoscaler's own metric, which has a sample a minute, so it knows of no minute before its deploy.

    Cost Explorer would be exact, a day late, and charge for each look.
    """
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    hour = timedelta(hours=1)
    hours = sum(
        point.value * min(60.0, point.samples) / 60
        for point in metrics.read(aws, _RUNNING, "Average", start=month, end=now, period=hour)
    )
    volumes = _volumes(aws, instance_id) if instance_id else []
    gib_hours = sum(v["Size"] * ((now - max(month, v["CreateTime"])) / hour) for v in volumes)
    disk = max(0.0, gib_hours) / HOURS_A_MONTH * disk_usd_per_gib_month()
    return Estimate(
        usd=round(hours * hourly_price(instance_type) + disk, 4),
        hours_up=round(hours, 2),
        disk_gib=sum(v["Size"] for v in volumes),
        source="estimate from the autoscaler's InstanceRunning metric and ops/prices.toml: EC2 and its disk only",
    )


def _volumes(aws: Connection, instance_id: str) -> list[VolumeTypeDef]:
    attached: list[FilterTypeDef] = [{"Name": "attachment.instance-id", "Values": [instance_id]}]
    return aws.ec2.describe_volumes(Filters=attached)["Volumes"]


@cache
def _prices() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "ops" / "prices.toml").read_text())
