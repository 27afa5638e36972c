"""The machines that transcribe: what EC2, the Auto Scaling group and their own tags say of them."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pymysql
from pydantic import BaseModel

from contracts.heartbeat import SILENT_AFTER, is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG
from ops.aws.connection import Connection, tags_of
from ops.capacity import fleet
from ops.errors import OpsError
from ops.lessons.lesson import find_job

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

_REASON_TIME = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")


class HoldNow(BaseModel):
    by: str
    until: datetime | None
    """None when the tag cannot be read: it then holds until it is removed."""
    active: bool


class Worker(BaseModel):
    """What the heartbeat tag says."""

    heartbeat: datetime
    job_id: str | None
    progress: int | None
    """Percent of the job in hand, from its row where the database answers."""
    crashed: bool
    """It crashed in a loop and its machine stopped; the autoscaler tries again after half an hour."""
    silent: bool
    """The instance runs and the heartbeat is older than five minutes."""


class Appliance(BaseModel):
    instance_id: str
    state: str
    since: datetime | None
    """When it entered the state; None where EC2 does not say."""
    instance_type: str
    image_id: str
    public_address: str | None
    """None is as it should be: administration goes through SSM."""
    hold: HoldNow | None
    worker: Worker | None


class FleetNow(BaseModel):
    """The Auto Scaling group, with CAPACITY_MODE=fleet."""

    name: str
    desired: int
    maximum: int
    states: dict[str, int]
    """How many machines are in each lifecycle state."""
    hold: HoldNow | None


def read_machine(
    aws: Connection, instance: InstanceTypeDef, now: datetime, *, database_answers: bool
) -> Appliance:
    tags = tags_of(instance)
    state = instance["State"]["Name"]
    worker = None
    if heartbeat := parse_heartbeat(tags.get(HEARTBEAT_TAG)):
        progress = heartbeat.percent if heartbeat.job else None
        if heartbeat.job and database_answers:
            progress = _progress(aws, heartbeat.job, progress)
        had_time = state == "running" and now - instance["LaunchTime"] > SILENT_AFTER
        worker = Worker(
            heartbeat=heartbeat.at,
            job_id=heartbeat.job,
            progress=progress,
            crashed=heartbeat.crashed,
            silent=had_time and is_silent(heartbeat, now),
        )
    return Appliance(
        instance_id=instance["InstanceId"],
        state=state,
        since=since(state, instance["LaunchTime"], instance.get("StateTransitionReason", "")),
        instance_type=instance["InstanceType"],
        image_id=instance["ImageId"],
        public_address=instance.get("PublicIpAddress") or None,
        hold=_hold(tags.get(HOLD_TAG), now),
        worker=worker,
    )


def read_fleet(aws: Connection, now: datetime) -> FleetNow | None:
    """None when there is no group, and with CAPACITY_MODE=instance."""
    group = fleet.find_group(aws) if aws.is_fleet else None
    if group is None:
        return None
    return FleetNow(
        name=group["AutoScalingGroupName"],
        desired=group["DesiredCapacity"],
        maximum=group["MaxSize"],
        states=dict(Counter(member["LifecycleState"] for member in group["Instances"])),
        hold=_hold(fleet.tags_of_group(group).get(HOLD_TAG), now),
    )


def since(state: str, launched: datetime, reason: str) -> datetime | None:
    """When the instance entered its state: EC2 gives the start as a time, and the stop within a sentence."""
    if state in {"pending", "running"}:
        return launched
    match = _REASON_TIME.search(reason)
    return datetime.fromisoformat(match[1]).replace(tzinfo=UTC) if match else None


def _hold(text: str | None, now: datetime) -> HoldNow | None:
    hold = parse_hold(text)
    return HoldNow(by=hold.by, until=hold.until, active=hold.active_at(now)) if hold else None


def _progress(aws: Connection, job_id: str, known: int | None) -> int | None:
    """The row is written every few seconds, the heartbeat once a minute."""
    try:
        return find_job(aws, job_id).progress
    except (pymysql.MySQLError, OpsError):
        return known
