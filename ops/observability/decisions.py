"""The autoscaler's last decision, from its log."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from ops.aws.connection import Connection
from ops.aws.logs import read_events

LOOK_BACK = timedelta(minutes=15)
_FIRST_TICK = timedelta(minutes=3)


class LastDecision(BaseModel):
    time: datetime
    age_seconds: float
    action: str
    reason: str
    outcome: str | None


def read_decision(aws: Connection, now: datetime) -> LastDecision | None:
    """The last one within the last quarter of an hour. Dry runs that prove a version do not count."""
    for event in reversed(read_events(aws, now - LOOK_BACK)):
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


def just_deployed(aws: Connection, now: datetime) -> bool:
    """Whether the autoscaler is too new to have run: its rule invokes it within a minute or two."""
    function = aws.functions.get_function_configuration(FunctionName=aws.autoscaler["FunctionName"])
    return now - datetime.fromisoformat(function["LastModified"]) < _FIRST_TICK
