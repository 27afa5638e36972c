"""The AWS side of a tick: two calls to observe, at most two to act."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from autoscaler.model import Action, Decision, Instance, Snapshot
from autoscaler.tags import format_condition, parse_condition
from contracts.heartbeat import parse_heartbeat
from contracts.hold import parse_hold
from contracts.tags import (
    AUTOSCALER_TAG,
    GROUP_TAG,
    HEARTBEAT_TAG,
    HOLD_TAG,
    REPLACEMENT_TAG,
    ROLE_PROCESSOR,
    ROLE_TAG,
)

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeFilterType

LIVE_STATES = ["pending", "running", "shutting-down", "stopping", "stopped"]


class Outcome(StrEnum):
    NONE = "none"
    DONE = "done"
    DRY_RUN = "dry-run"
    INCORRECT_STATE = "incorrect-state"
    NO_CAPACITY = "no-capacity"


_NAMED_ERRORS = {
    # The state changed between observing and acting; the next tick finds the new one.
    "IncorrectInstanceState": Outcome.INCORRECT_STATE,
    # The zone is full for now; the next tick tries again, and an alarm watches the metric.
    "InsufficientInstanceCapacity": Outcome.NO_CAPACITY,
    "InsufficientHostCapacity": Outcome.NO_CAPACITY,
    "InsufficientReservedInstanceCapacity": Outcome.NO_CAPACITY,
}


class InstanceAdapter:
    def __init__(self, ec2: EC2Client, sqs: SQSClient, queue_url: str) -> None:
        self._ec2 = ec2
        self._sqs = sqs
        self._queue_url = queue_url

    def observe(self, now: datetime, *, upload_event: bool = False) -> Snapshot:
        queue = read_queue(self._sqs, self._queue_url)
        return Snapshot(now, self._find_instance(), *queue, upload_event=upload_event)

    def act(self, snapshot: Snapshot, decision: Decision) -> Outcome:
        """Carry the decision out. Raises ClientError for an error that has no outcome of its own."""
        instance = snapshot.instance
        if instance is None:
            return Outcome.NONE  # the metric raises the alarm
        # The tag first: without it, a reboot would be repeated every minute.
        self._remember(instance, decision)
        return self._carry_out(decision.action, instance.id)

    def _find_instance(self) -> Instance | None:
        reservations = self._ec2.describe_instances(
            Filters=[
                {"Name": f"tag:{ROLE_TAG}", "Values": [ROLE_PROCESSOR]},
                {"Name": "instance-state-name", "Values": LIVE_STATES},
            ]
        )["Reservations"]
        instances = [each for reservation in reservations for each in reservation["Instances"]]
        # Leave out what an image replacement has on trial, and machines left of a fleet.
        found = [_read_instance(each) for each in instances if not {REPLACEMENT_TAG, GROUP_TAG} & set(_tags(each))]
        if not found:
            return None
        newest = max(found, key=lambda instance: (instance.launch_time, instance.id))
        return replace(newest, others=len(found) - 1)

    def _remember(self, instance: Instance, decision: Decision) -> None:
        if decision.condition == instance.condition:
            return
        if decision.condition:
            value = format_condition(decision.condition)
            self._ec2.create_tags(Resources=[instance.id], Tags=[{"Key": AUTOSCALER_TAG, "Value": value}])
        else:
            self._ec2.delete_tags(Resources=[instance.id], Tags=[{"Key": AUTOSCALER_TAG}])

    def _carry_out(self, action: Action, instance_id: str) -> Outcome:
        ids = [instance_id]
        try:
            match action:
                case Action.START:
                    self._ec2.start_instances(InstanceIds=ids)
                case Action.STOP:
                    self._ec2.stop_instances(InstanceIds=ids)
                case Action.FORCE_STOP:
                    self._ec2.stop_instances(InstanceIds=ids, Force=True)
                case Action.RESTART:
                    self._ec2.reboot_instances(InstanceIds=ids)
                case Action.NONE | Action.ALARM | Action.SCALE_OUT:
                    return Outcome.NONE
        except ClientError as error:
            outcome = _NAMED_ERRORS.get(error.response["Error"]["Code"])
            if outcome is None:
                raise
            return outcome
        return Outcome.DONE


def _tags(raw: InstanceTypeDef) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])}


def read_queue(sqs: SQSClient, url: str) -> tuple[int, int, int]:
    """Messages visible, in flight and delayed. SQS gives approximate numbers only."""
    kinds = ("", "NotVisible", "Delayed")
    names: list[QueueAttributeFilterType] = [f"ApproximateNumberOfMessages{kind}" for kind in kinds]  # type: ignore[misc]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    visible, in_flight, delayed = (int(found[name]) for name in names)  # type: ignore[index]
    return visible, in_flight, delayed


def _read_instance(raw: InstanceTypeDef) -> Instance:
    tags = _tags(raw)
    return Instance(
        id=raw["InstanceId"],
        state=raw["State"]["Name"],
        launch_time=raw["LaunchTime"],
        hold=parse_hold(tags.get(HOLD_TAG)),
        heartbeat=parse_heartbeat(tags.get(HEARTBEAT_TAG)),
        condition=parse_condition(tags.get(AUTOSCALER_TAG)),
    )
