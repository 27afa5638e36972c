"""The condition that the autoscaler tracks from one tick to the next, kept in a tag on the instance.

Anybody can edit a tag, so one that cannot be read never stops the autoscaler.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from contracts.timestamps import format_time, parse_time

_FORMAT = re.compile(r"(?P<kind>idle|stopping|restarted) since=(?P<since>\S+) ticks=(?P<ticks>[0-9]{1,9})")


class ConditionKind(StrEnum):
    IDLE = "idle"
    """Running without work for `ticks` in a row."""
    STOPPING = "stopping"
    """Stopping; `since` tells whether it is stuck."""
    RESTARTED = "restarted"
    """Rebooted, with no heartbeat yet. A reboot keeps the launch time, so the boot grace counts from `since`."""


@dataclass(frozen=True)
class TrackedCondition:
    """A condition that lasts over several ticks."""

    kind: ConditionKind
    since: datetime
    ticks: int = 1


def parse_condition(text: str | None) -> TrackedCondition | None:
    """Read the tag's value. One that cannot be read is ignored, and counting starts again."""
    match = _FORMAT.fullmatch(text or "")
    since = parse_time(match["since"]) if match else None
    if not match or not since:
        return None
    return TrackedCondition(ConditionKind(match["kind"]), since, int(match["ticks"]))


def format_condition(condition: TrackedCondition) -> str:
    return f"{condition.kind} since={format_time(condition.since)} ticks={condition.ticks}"
