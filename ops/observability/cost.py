"""What the month has cost so far, from the price table."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel

from contracts.metrics import INSTANCE_RUNNING, NAMESPACE
from ops.aws import metrics
from ops.aws.connection import Connection
from ops.prices import HOURS_A_MONTH, disk_usd_per_gib_month, hourly_price

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, VolumeTypeDef

_RUNNING = metrics.Metric(NAMESPACE, INSTANCE_RUNNING, {})


class Estimate(BaseModel):
    """Of the month so far."""

    usd: float
    hours_up: float
    disk_gib: int
    source: str


def month_to_date(aws: Connection, instance_type: str, instance_id: str | None, now: datetime) -> Estimate:
    """From the autoscaler's own metric: a sample a minute, and none from before its first deploy.

    Cost Explorer would be exact, but a day late, and it charges for each request.
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
