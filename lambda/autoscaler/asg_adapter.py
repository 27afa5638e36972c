"""The AWS side of a fleet's tick: two calls observe an idle fleet; scaling out takes six at most."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from autoscaler.instance_adapter import LIVE_STATES, Outcome, read_queue
from autoscaler.model import Action, Config, Decision, Group, Snapshot
from contracts.heartbeat import is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.metrics import AUDIO_SECONDS, CRASH_LOOP, NAMESPACE, UPLOAD_BYTES
from contracts.tags import GROUP_TAG, HEARTBEAT_TAG, HOLD_TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_autoscaling.type_defs import ActivityTypeDef, AutoScalingGroupTypeDef
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef
    from mypy_boto3_sqs import SQSClient

_DESIRED = re.compile(r"changing the desired capacity from (\d+) to (\d+)")
_LAUNCHING = "Launching a new EC2 instance"
_ACTIVITIES = 30
_DAY, _HOUR, _MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
_MEASURED = (AUDIO_SECONDS, UPLOAD_BYTES)
_MOST_UNUSUAL = 4.0
_IN_PROGRESS = "ScalingActivityInProgress"


@dataclass(frozen=True)
class Measured:
    """What CloudWatch knows of the last day."""

    lesson_minutes: float | None = None
    last_crash: datetime | None = None
    """To the minute. A machine's own tags are lost with it."""


class GroupAdapter:
    def __init__(
        self,
        autoscaling: AutoScalingClient,
        ec2: EC2Client,
        sqs: SQSClient,
        cloudwatch: CloudWatchClient,
        queue_url: str,
        group_name: str,
        config: Config | None = None,
    ) -> None:
        """`config` says how long a worker may be silent."""
        self._config = config or Config()
        self._autoscaling = autoscaling
        self._ec2 = ec2
        self._sqs = sqs
        self._cloudwatch = cloudwatch
        self._queue_url = queue_url
        self._group_name = group_name

    def observe(self, now: datetime, *, upload_event: bool = False) -> Snapshot:
        """What a decision needs. While nothing waits, it reads neither activities nor metrics."""
        queue = read_queue(self._sqs, self._queue_url)
        raw = self._find_group()
        snapshot = Snapshot(now, None, *queue, upload_event=upload_event)
        if raw is None:
            return snapshot
        instances = self._instances() if raw["Instances"] else []
        activities = self._activities() if snapshot.backlog else []
        measured = self._measure(now) if snapshot.backlog else Measured()
        minutes = measured.lesson_minutes
        return replace(
            snapshot,
            group=replace(
                read_group(raw, instances, activities),
                last_crash=measured.last_crash,
                silent=tuple(
                    sorted(i["InstanceId"] for i in instances if is_silent_instance(i, now, self._config))
                ),
            ),
            audio_minutes=None if minutes is None else snapshot.backlog * minutes,
        )

    def act(self, snapshot: Snapshot, decision: Decision) -> Outcome:
        """Carry the decision out. Raises ClientError for an error that has no outcome of its own."""
        if decision.action is not Action.SCALE_OUT or decision.desired is None:
            refused = snapshot.group is not None and snapshot.group.launch_failure is not None
            return Outcome.NO_CAPACITY if refused else Outcome.NONE
        try:
            self._autoscaling.set_desired_capacity(
                AutoScalingGroupName=self._group_name, DesiredCapacity=decision.desired, HonorCooldown=False
            )
        except ClientError as error:
            if error.response["Error"]["Code"].startswith(_IN_PROGRESS):
                return Outcome.INCORRECT_STATE
            raise
        return Outcome.DONE

    def _find_group(self) -> AutoScalingGroupTypeDef | None:
        found = self._autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self._group_name])
        groups = found["AutoScalingGroups"]
        return groups[0] if groups else None

    def _instances(self) -> list[InstanceTypeDef]:
        """The group's, including terminated ones that EC2 still lists."""
        filters = [{"Name": f"tag:{GROUP_TAG}", "Values": [self._group_name]}]
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters)  # type: ignore[arg-type]
        return [i for page in pages for r in page["Reservations"] for i in r["Instances"]]

    def _activities(self) -> list[ActivityTypeDef]:
        answer = self._autoscaling.describe_scaling_activities(
            AutoScalingGroupName=self._group_name, MaxRecords=_ACTIVITIES
        )
        return answer["Activities"]

    def _measure(self, now: datetime) -> Measured:
        """What the workers told CloudWatch in the last day, in one call."""
        sums, counts = (
            {name: _query(f"{name.lower()}_{kind.lower()}", name, kind, _HOUR) for name in _MEASURED}
            for kind in ("Sum", "SampleCount")
        )
        queries = [*sums.values(), *counts.values(), _query("crashes", CRASH_LOOP, "Sum", _MINUTE)]
        found: dict[str, dict[datetime, float]] = {}
        pages = self._cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries, StartTime=now - _DAY, EndTime=now + _MINUTE
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                points = zip(result["Timestamps"], result["Values"], strict=True)
                found.setdefault(result["Id"], {}).update(points)

        def mean(name: str, since: datetime) -> float | None:
            total, count = (
                sum(value for at, value in found.get(query[name]["Id"], {}).items() if at >= since)
                for query in (sums, counts)
            )
            return total / count if count else None

        return Measured(
            lesson_minutes=lesson_minutes(
                audio_seconds=mean(AUDIO_SECONDS, now - _DAY),
                bytes_a_day=mean(UPLOAD_BYTES, now - _DAY),
                # The points are whole hours: the current one and the one before.
                bytes_an_hour=mean(UPLOAD_BYTES, now - 2 * _HOUR),
            ),
            last_crash=max((at for at, value in found.get("crashes", {}).items() if value), default=None),
        )


def _query(name: str, metric: str, statistic: str, period: timedelta) -> MetricDataQueryTypeDef:
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {"Namespace": NAMESPACE, "MetricName": metric},
            "Period": int(period.total_seconds()),
            "Stat": statistic,
        },
    }


def lesson_minutes(
    *, audio_seconds: float | None, bytes_a_day: float | None, bytes_an_hour: float | None
) -> float | None:
    """Expected minutes of a waiting lesson; None while no lesson has been measured.

    SQS does not show the messages that wait, and an upload has a size but no length. The workers measure the
    length of each lesson they transcribe, so the mean of a day is known.

    The result is that mean, scaled by how much larger than usual the latest uploads are. The factor is limited to
    four either way: a video is larger than a sound recording and no longer.
    """
    if not audio_seconds:
        return None
    unusual = bytes_an_hour / bytes_a_day if bytes_an_hour and bytes_a_day else 1.0
    return audio_seconds / 60 * min(_MOST_UNUSUAL, max(1 / _MOST_UNUSUAL, unusual))


def read_group(
    raw: AutoScalingGroupTypeDef, instances: Sequence[InstanceTypeDef], activities: Sequence[ActivityTypeDef]
) -> Group:
    """The group as the decision needs it. `activities` are the latest first, as AWS returns them."""
    tags = {tag["Key"]: tag.get("Value", "") for tag in raw.get("Tags", [])}
    states = [member["LifecycleState"] for member in raw["Instances"]]
    live = [i["LaunchTime"] for i in instances if i["State"]["Name"] in LIVE_STATES]
    in_service = states.count("InService")
    pending = sum(state.startswith("Pending") for state in states)
    short = in_service + pending < raw["DesiredCapacity"]
    return Group(
        name=raw["AutoScalingGroupName"],
        desired=raw["DesiredCapacity"],
        maximum=raw["MaxSize"],
        minimum=raw["MinSize"],
        in_service=in_service,
        pending=pending,
        leaving=sum(state.startswith("Terminat") for state in states),
        hold=parse_hold(tags.get(HOLD_TAG)),
        last_scale_out=_last_scale_out(activities),
        launch_failure=_launch_failure(activities) if short else None,
        oldest_launch=min(live, default=None),
    )


def is_silent_instance(instance: InstanceTypeDef, now: datetime, config: Config) -> bool:
    """Whether the machine has had time to boot and its heartbeat is older than allowed."""
    if instance["State"]["Name"] != "running" or now - instance["LaunchTime"] <= config.boot_grace:
        return False
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return is_silent(parse_heartbeat(tags.get(HEARTBEAT_TAG)), now, config.heartbeat_grace)


def _last_scale_out(activities: Sequence[ActivityTypeDef]) -> datetime | None:
    """When the desired capacity was last raised. Replacing a machine is no scale-out."""
    for activity in activities:
        if activity["Description"].startswith(_LAUNCHING):
            match = _DESIRED.search(activity["Cause"])
            if match and int(match[2]) > int(match[1]):
                return activity["StartTime"]
    return None


def _launch_failure(activities: Sequence[ActivityTypeDef]) -> str | None:
    for activity in activities:
        if activity["Description"].startswith(_LAUNCHING):
            failed = activity["StatusCode"] in ("Failed", "Cancelled")
            return activity.get("StatusMessage", "no reason given") if failed else None
    return None
