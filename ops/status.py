"""Everything an operator asks first, gathered once: for the screen and for scripts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pymysql
from botocore.exceptions import ClientError
from pydantic import BaseModel

from ops.connection import Connection
from ops.errors import OpsError
from ops.lessons import Job, list_jobs
from ops.logs import read_events
from whisper_processor.contracts import HEARTBEAT_TAG, HOLD_TAG

_LOOK_BACK = timedelta(minutes=15)


class Appliance(BaseModel):
    instance_id: str
    state: str
    since: datetime
    instance_type: str
    image_id: str
    hold: str | None
    heartbeat: str | None


class Queue(BaseModel):
    visible: int
    in_flight: int
    delayed: int
    dead: int

    @property
    def backlog(self) -> int:
        return self.visible + self.in_flight + self.delayed


class LastDecision(BaseModel):
    time: datetime
    action: str
    reason: str
    outcome: str | None


class Status(BaseModel):
    appliance: Appliance | None
    queue: Queue
    decision: LastDecision | None
    jobs: list[Job]
    problems: list[str]

    @property
    def healthy(self) -> bool:
        return not self.problems


def read_queue(cloud: Connection) -> Queue:
    foundation = cloud.foundation
    visible, in_flight, delayed = _counts(cloud, foundation["QueueUrl"])
    dead, _, _ = _counts(cloud, foundation["DlqUrl"])
    return Queue(visible=visible, in_flight=in_flight, delayed=delayed, dead=dead)


def _counts(cloud: Connection, url: str) -> tuple[int, int, int]:
    attributes = cloud.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        int(attributes["ApproximateNumberOfMessagesDelayed"]),
    )


def read_status(cloud: Connection, now: datetime | None = None) -> Status:
    now = now or datetime.now(UTC)
    appliance, queue, decision = _appliance(cloud), read_queue(cloud), _decision(cloud, now)
    problems: list[str] = []
    if appliance is None:
        problems.append("there is no appliance: run `make launch`")
    if queue.dead:
        problems.append(f"{queue.dead} messages lie in the dead-letter queue")
    if decision is None:
        problems.append(f"the autoscaler has not run in the last {_LOOK_BACK.seconds // 60} minutes")
    jobs: list[Job] = []
    try:
        jobs = list_jobs(cloud, 5)
    except (pymysql.MySQLError, OpsError, ClientError) as error:
        problems.append(f"the database does not answer: {error}")
    return Status(appliance=appliance, queue=queue, decision=decision, jobs=jobs, problems=problems)


def _appliance(cloud: Connection) -> Appliance | None:
    instance = cloud.find_instance()
    if instance is None:
        return None
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return Appliance(
        instance_id=instance["InstanceId"],
        state=instance["State"]["Name"],
        since=instance["LaunchTime"],
        instance_type=instance["InstanceType"],
        image_id=instance["ImageId"],
        hold=tags.get(HOLD_TAG),
        heartbeat=tags.get(HEARTBEAT_TAG),
    )


def _decision(cloud: Connection, now: datetime) -> LastDecision | None:
    for event in reversed(read_events(cloud, now - _LOOK_BACK)):
        if event.source == "autoscaler" and "action" in event.fields:
            return LastDecision(
                time=event.time,
                action=event.fields["action"],
                reason=event.fields.get("reason", ""),
                outcome=event.fields.get("outcome"),
            )
    return None
