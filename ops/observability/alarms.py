"""The alarms: which fire, and what to do about each, as their descriptions in the templates say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ops.aws.connection import Connection
from ops.capacity.launch import ALARM_PREFIX


@dataclass(frozen=True)
class Alarm:
    name: str
    state: str
    """OK, ALARM or INSUFFICIENT_DATA."""
    since: datetime
    reason: str
    advice: str

    @property
    def fires(self) -> bool:
        return self.state == "ALARM"


def read_alarms(aws: Connection) -> list[Alarm]:
    """Those that fire first, then by name."""
    pages = aws.cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix=ALARM_PREFIX)
    found = [
        Alarm(
            name=alarm["AlarmName"].removeprefix(ALARM_PREFIX),
            state=alarm["StateValue"],
            since=alarm["StateUpdatedTimestamp"],
            reason=alarm.get("StateReason", ""),
            advice=alarm.get("AlarmDescription", ""),
        )
        for page in pages
        for alarm in page["MetricAlarms"]
    ]
    return sorted(found, key=lambda alarm: (not alarm.fires, alarm.name))
