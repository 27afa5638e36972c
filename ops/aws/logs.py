"""The log groups of the autoscaler and of the processor, read as one series of events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contracts.names import PROCESSOR_LOG_GROUP
from ops.aws.connection import Connection


@dataclass(frozen=True)
class LogEvent:
    time: datetime
    source: str
    """`autoscaler` or the instance's id."""
    fields: dict[str, Any]
    """The line's JSON object; `{"text": …}` for a line that is not JSON."""


def read_events(aws: Connection, since: datetime) -> list[LogEvent]:
    """The events of both groups since then, in order of time. A group that does not exist yet is empty."""
    function = aws.autoscaler["FunctionName"]
    events = [
        *_group(aws, f"/aws/lambda/{function}", since, "autoscaler"),
        *_group(aws, PROCESSOR_LOG_GROUP, since, None),
    ]
    return sorted(events, key=lambda event: event.time)


def _group(aws: Connection, group: str, since: datetime, source: str | None) -> Iterator[LogEvent]:
    pages = aws.logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000)
    )
    try:
        for page in pages:
            for event in page.get("events", []):
                moment = datetime.fromtimestamp(event["timestamp"] / 1000, UTC)
                for line in event["message"].splitlines():
                    fields = _fields(line)
                    if fields is not None:
                        yield LogEvent(_own_time(fields, moment), source or event["logStreamName"], fields)
    except aws.logs.exceptions.ResourceNotFoundException:
        return


def _fields(line: str) -> dict[str, Any] | None:
    if not line.strip() or line.startswith(("START ", "END ", "REPORT ", "INIT_")):
        return None  # Lambda's own lines
    try:
        fields = json.loads(line)
    except json.JSONDecodeError:
        return {"text": line}
    if not isinstance(fields, dict) or "_aws" in fields:
        return None  # metrics
    return fields


def _own_time(fields: dict[str, Any], shipped: datetime) -> datetime:
    """The worker puts the time on each line; shipping it takes up to a second more."""
    try:
        return datetime.fromisoformat(fields["time"])
    except (KeyError, TypeError, ValueError):
        return shipped
