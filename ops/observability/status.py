"""Everything an operator asks first, gathered once: for the screen and for scripts."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pymysql
from botocore.exceptions import ClientError
from pydantic import BaseModel

from contracts.capacity import CapacityMode
from contracts.heartbeat import SILENT_AFTER, is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG, PROCESSOR_TAG, REPLACEMENT_TAG
from ops.autoscaler.release import live_version
from ops.aws import metrics
from ops.aws.connection import Connection, tags_of
from ops.aws.logs import read_events
from ops.capacity import fleet
from ops.errors import OpsError
from ops.lessons.lesson import Job, find_job, list_jobs
from ops.observability import alarms
from ops.observability.cost import Estimate, month_to_date
from ops.releases.store import read_wanted
from whisper_processor.releases import Wanted

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

_LOOK_BACK = timedelta(minutes=15)
_FIRST_TICK = timedelta(minutes=3)
_OLD = timedelta(hours=1)
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
    """It crashed in a loop and its machine stopped; the autoscaler waits half an hour before it tries again."""
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


class Version(BaseModel):
    wanted: str | None
    """The release that the pointer names; a stopped appliance installs it at its next boot."""
    installed: str | None
    """What the worker said at its last start."""
    autoscaler: str | None
    """The version of the function that ticks, and the revision it was published from."""


class Queue(BaseModel):
    visible: int
    in_flight: int
    delayed: int
    dead: int
    oldest_seconds: float | None = None
    """Age of the oldest message, from CloudWatch, so up to some minutes late; None without a number."""

    @property
    def backlog(self) -> int:
        return self.visible + self.in_flight + self.delayed


class LastDecision(BaseModel):
    time: datetime
    age_seconds: float
    action: str
    reason: str
    outcome: str | None


class Status(BaseModel):
    healthy: bool
    problems: list[str]
    appliance: Appliance | None
    """The newest machine; None for none, which is a fleet's usual state."""
    fleet: FleetNow | None
    machines: list[Appliance]
    """All of them: of a fleet there may be many."""
    rolling: list[str]
    """Instances that an unfinished replacement has on trial or relieved, each with its part and state."""
    queue: Queue
    decision: LastDecision | None
    version: Version
    jobs: list[Job]
    month_to_date: Estimate


def read_queue(aws: Connection) -> Queue:
    """The counts of the lesson queue and of its dead-letter queue, as SQS has them at this moment."""
    foundation = aws.foundation
    visible, in_flight, delayed = _counts(aws, foundation["QueueUrl"])
    dead = sum(_counts(aws, foundation["DlqUrl"]))
    return Queue(visible=visible, in_flight=in_flight, delayed=delayed, dead=dead)


def _counts(aws: Connection, url: str) -> tuple[int, int, int]:
    attributes = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        int(attributes["ApproximateNumberOfMessagesDelayed"]),
    )


def read_status(aws: Connection, now: datetime | None = None) -> Status:
    """Raises OpsError when the stacks are not there; all else that is missing is a problem in the answer."""
    now = now or datetime.now(UTC)
    problems: list[str] = []
    queue = read_queue(aws).model_copy(update={"oldest_seconds": _oldest(aws, now)})
    decision = read_decision(aws, now)
    jobs: list[Job] = []
    try:
        jobs = list_jobs(aws, 5)
    except (pymysql.MySQLError, OpsError, ClientError) as error:
        problems.append(f"the database does not answer: {error}")
    newest_first = sorted(aws.machines(), key=lambda instance: instance["LaunchTime"], reverse=True)
    instance = next(iter(newest_first), None)
    tags = tags_of(instance) if instance else {}
    machines = [_appliance(aws, each, now, database_answers=not problems) for each in newest_first]
    appliance = next(iter(machines), None)
    wanted: Wanted | None = None
    try:
        wanted = read_wanted(aws)
    except OpsError as error:
        problems.append(str(error))
    fleet_now = _fleet(aws, now)
    capacity_problems = _fleet_problems(fleet_now, machines) if is_fleet(aws) else _appliance_problems(appliance)
    found = _problems(queue, decision, just_deployed=_just_deployed(aws, now))
    problems = [*capacity_problems, *found, *problems]
    problems += [f"alarm {a.name}: {a.advice}" for a in alarms.read_alarms(aws) if a.fires]
    return Status(
        healthy=not problems,
        problems=problems,
        appliance=appliance,
        fleet=fleet_now,
        machines=machines,
        rolling=[
            f"{other['InstanceId']} {part} ({other['State']['Name']})"
            for other in aws.instances()
            if (part := tags_of(other).get(REPLACEMENT_TAG))
        ],
        queue=queue,
        decision=decision,
        version=Version(
            wanted=wanted.release.name if wanted else None,
            installed=tags.get(PROCESSOR_TAG),
            autoscaler=str(live) if (live := live_version(aws)) else None,
        ),
        jobs=jobs,
        month_to_date=month_to_date(
            aws,
            appliance.instance_type if appliance else aws.settings.instance_type,
            appliance.instance_id if appliance else None,
            now,
        ),
    )


def is_fleet(aws: Connection) -> bool:
    return aws.settings.capacity_mode is CapacityMode.FLEET


def _appliance_problems(appliance: Appliance | None) -> list[str]:
    if appliance is None:
        return ["there is no appliance: run `make launch`"]
    if appliance.worker and appliance.worker.crashed:
        return ["the worker crashed in a loop: see `make logs MINUTES=60`, then `make start`"]
    if appliance.worker and appliance.worker.silent:
        return ["the worker is silent: run `make doctor`"]
    return []


def _fleet_problems(group: FleetNow | None, machines: list[Appliance]) -> list[str]:
    if group is None:
        return ["there is no fleet: run `make deploy-infra deploy-lambda`"]
    found: list[str] = []
    for machine in machines:
        if machine.worker and machine.worker.crashed:
            found.append(f"the worker on {machine.instance_id} crashed in a loop: see `make logs MINUTES=60`")
        elif machine.worker and machine.worker.silent:
            found.append(
                f"the worker on {machine.instance_id} is silent: see `make logs`, then `make stop release`"
            )
    return found


def _fleet(aws: Connection, now: datetime) -> FleetNow | None:
    group = fleet.find_group(aws) if is_fleet(aws) else None
    if group is None:
        return None
    tags = {tag["Key"]: tag.get("Value", "") for tag in group.get("Tags", [])}
    return FleetNow(
        name=group["AutoScalingGroupName"],
        desired=group["DesiredCapacity"],
        maximum=group["MaxSize"],
        states=dict(Counter(member["LifecycleState"] for member in group["Instances"])),
        hold=_hold(tags.get(HOLD_TAG), now),
    )


def _problems(queue: Queue, decision: LastDecision | None, *, just_deployed: bool) -> list[str]:
    found: list[str] = []
    if queue.dead:
        found.append(f"{queue.dead} messages lie in the dead-letter queue: see `make dlq`")
    if (queue.oldest_seconds or 0) > _OLD.total_seconds():
        found.append("a lesson has waited for more than an hour: see `make logs`")
    if decision is None and not just_deployed:
        found.append(f"the autoscaler has not run in {_LOOK_BACK.seconds // 60} minutes: run `make doctor`")
    return found


def _appliance(aws: Connection, instance: InstanceTypeDef, now: datetime, *, database_answers: bool) -> Appliance:
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


def since(state: str, launched: datetime, reason: str) -> datetime | None:
    """When the instance entered its state: EC2 tells the start apart, and the stop in words."""
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


def _oldest(aws: Connection, now: datetime) -> float | None:
    name = {"QueueName": aws.foundation["QueueName"]}
    metric = metrics.Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", name)
    minute = timedelta(minutes=1)
    points = metrics.read(aws, metric, "Maximum", start=now - 10 * minute, end=now, period=minute)
    return points[-1].value if points else None


def _just_deployed(aws: Connection, now: datetime) -> bool:
    """Whether the autoscaler is too new to have run: its rule ticks within a minute or two."""
    function = aws.functions.get_function_configuration(FunctionName=aws.autoscaler["FunctionName"])
    return now - datetime.fromisoformat(function["LastModified"]) < _FIRST_TICK


def read_decision(aws: Connection, now: datetime) -> LastDecision | None:
    """The autoscaler's last one of the last quarter of an hour, but for the trials of its versions."""
    for event in reversed(read_events(aws, now - _LOOK_BACK)):
        trial = (event.fields.get("trigger"), event.fields.get("outcome")) == ("manual", "dry-run")
        if event.source == "autoscaler" and "action" in event.fields and not trial:
            return LastDecision(
                time=event.time,
                age_seconds=round((now - event.time).total_seconds(), 1),
                action=event.fields["action"],
                reason=event.fields.get("reason", ""),
                outcome=event.fields.get("outcome"),
            )
    return None
