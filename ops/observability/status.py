"""Everything an operator asks first, gathered once: for the screen and for scripts."""

from __future__ import annotations

from datetime import UTC, datetime

import pymysql
from botocore.exceptions import ClientError
from pydantic import BaseModel, Field

from contracts.tags import PROCESSOR_TAG, REPLACEMENT_TAG
from ops.autoscaler.release import live_version
from ops.aws.connection import Connection, tags_of
from ops.errors import OpsError
from ops.lessons.lesson import Job, list_jobs
from ops.observability.alarms import read_alarms
from ops.observability.cost import Estimate, month_to_date
from ops.observability.decisions import LastDecision, just_deployed, read_decision
from ops.observability.machines import Appliance, FleetNow, read_fleet, read_machine
from ops.observability.problems import find_problems
from ops.observability.queues import Queue, read_queue_with_age
from ops.releases.store import read_wanted


class Version(BaseModel):
    wanted: str | None
    """The release that the pointer names; a stopped appliance installs it at its next boot."""
    installed: str | None
    """What the worker said at its last start."""
    autoscaler: str | None
    """The function's live version, and the revision it was published from."""


class Status(BaseModel):
    healthy: bool
    problems: list[str]
    appliance: Appliance | None
    """The newest machine; None for none, which is a fleet's usual state."""
    fleet: FleetNow | None
    machines: list[Appliance]
    """All of them: of a fleet there may be many."""
    replacing: list[str] = Field(serialization_alias="rolling")  # scripts read the JSON by the older name
    """Instances of an unfinished image replacement: on trial, or leaving."""
    queue: Queue
    decision: LastDecision | None
    version: Version
    jobs: list[Job]
    month_to_date: Estimate


def read_status(aws: Connection, now: datetime | None = None) -> Status:
    """Raises OpsError when the stacks are not there; all else that is missing is a problem in the answer."""
    now = now or datetime.now(UTC)
    unreadable: list[str] = []
    queue = read_queue_with_age(aws, now)
    decision = read_decision(aws, now)
    jobs = _recent_jobs(aws, unreadable)
    newest_first = sorted(aws.machines(), key=lambda instance: instance["LaunchTime"], reverse=True)
    machines = [read_machine(aws, each, now, database_answers=not unreadable) for each in newest_first]
    appliance = next(iter(machines), None)
    wanted = _wanted_release(aws, unreadable)
    fleet = read_fleet(aws, now)
    problems = find_problems(
        aws.settings.capacity_mode,
        machines,
        fleet,
        queue,
        decision,
        read_alarms(aws),
        just_deployed=just_deployed(aws, now),
        unreadable=unreadable,
    )
    live = live_version(aws)
    return Status(
        healthy=not problems,
        problems=problems,
        appliance=appliance,
        fleet=fleet,
        machines=machines,
        replacing=_replacing(aws),
        queue=queue,
        decision=decision,
        version=Version(
            wanted=wanted,
            installed=tags_of(newest_first[0]).get(PROCESSOR_TAG) if newest_first else None,
            autoscaler=str(live) if live else None,
        ),
        jobs=jobs,
        month_to_date=month_to_date(
            aws,
            appliance.instance_type if appliance else aws.settings.instance_type,
            appliance.instance_id if appliance else None,
            now,
        ),
    )


def _recent_jobs(aws: Connection, unreadable: list[str]) -> list[Job]:
    try:
        return list_jobs(aws, 5)
    except (pymysql.MySQLError, OpsError, ClientError) as error:
        unreadable.append(f"the database does not answer: {error}")
        return []


def _wanted_release(aws: Connection, unreadable: list[str]) -> str | None:
    try:
        wanted = read_wanted(aws)
    except OpsError as error:
        unreadable.append(str(error))
        return None
    return wanted.release.name if wanted else None


def _replacing(aws: Connection) -> list[str]:
    return [
        f"{instance['InstanceId']} {part} ({instance['State']['Name']})"
        for instance in aws.instances()
        if (part := tags_of(instance).get(REPLACEMENT_TAG))
    ]
