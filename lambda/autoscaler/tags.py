"""What is written on the instance: tags are the only memory between two ticks.

Every reader here takes any text. A tag can be edited by hand, so one that cannot be read never stops the
autoscaler; what it then means is said at each reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

ROLE_TAG = "classreflect:role"
ROLE_PROCESSOR = "whisper-processor"
HOLD_TAG = "classreflect:hold"
HEARTBEAT_TAG = "classreflect:heartbeat"
GROUP_TAG = "aws:autoscaling:groupName"
"""EC2 Auto Scaling's own: which group the instance belongs to."""
MARK_TAG = "classreflect:autoscaler"
ROLL_TAG = "classreflect:roll"
"""On an instance that a roll-out has on trial, or that leaves after it: not the one to look after."""

_HOLD = re.compile(r"by=(?P<by>.+);until=(?P<until>[^;]+)")
_HEARTBEAT = re.compile(r"(?P<at>\S+) (?:idle|(?P<crashed>crashed)|busy (?P<job>\S+) (?P<percent>[0-9]{1,3})%)")
_MARK = re.compile(r"(?P<condition>idle|stopping|restarted) since=(?P<since>\S+) ticks=(?P<ticks>[0-9]{1,9})")


class Condition(StrEnum):
    """What the autoscaler has to remember of an instance from one tick to the next."""

    IDLE = "idle"
    """Running without work; `ticks` in a row."""
    STOPPING = "stopping"
    """On its way down; `since` tells whether it is stuck."""
    RESTARTED = "restarted"
    """Rebooted, not heard of yet. A reboot leaves the launch time alone, so boot grace counts from `since`."""


@dataclass(frozen=True)
class Mark:
    condition: Condition
    since: datetime
    ticks: int = 1


@dataclass(frozen=True)
class Hold:
    """A person keeps the autoscaler's hands off. `until` is None when the tag could not be read."""

    by: str
    until: datetime | None

    def active(self, now: datetime) -> bool:
        return self.until is None or now < self.until


@dataclass(frozen=True)
class Heartbeat:
    """The worker's last word; `job` is None when it was idle."""

    at: datetime
    job: str | None = None
    percent: int = 0
    crashed: bool = False
    """It crashed in a loop, and its machine stopped for that."""


def format_time(moment: datetime) -> str:
    # isoformat, not strftime: %Y drops the leading zeros of years before 1000.
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime | None:
    """An instant in UTC; None if it is not one, or leaves its time zone open."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def parse_hold(text: str | None) -> Hold | None:
    """A hold that cannot be read is still a hold: someone meant one, and doing nothing is the safe side."""
    if text is None:
        return None
    match = _HOLD.fullmatch(text)
    until = parse_time(match["until"]) if match else None
    return Hold(match["by"], until) if match and until else Hold(text, None)


def format_hold(hold: Hold) -> str:
    return f"by={hold.by};until={format_time(hold.until)}" if hold.until else hold.by


def parse_heartbeat(text: str | None) -> Heartbeat | None:
    """A heartbeat that cannot be read is none."""
    match = _HEARTBEAT.fullmatch(text or "")
    at = parse_time(match["at"]) if match else None
    if not match or not at:
        return None
    return Heartbeat(at, match["job"], int(match["percent"] or 0), crashed=bool(match["crashed"]))


def format_heartbeat(heartbeat: Heartbeat) -> str:
    at = format_time(heartbeat.at)
    if heartbeat.crashed:
        return f"{at} crashed"
    return f"{at} busy {heartbeat.job} {heartbeat.percent}%" if heartbeat.job else f"{at} idle"


def parse_mark(text: str | None) -> Mark | None:
    """A mark that cannot be read is forgotten: counting starts afresh."""
    match = _MARK.fullmatch(text or "")
    since = parse_time(match["since"]) if match else None
    if not match or not since:
        return None
    return Mark(Condition(match["condition"]), since, int(match["ticks"]))


def format_mark(mark: Mark) -> str:
    return f"{mark.condition} since={format_time(mark.since)} ticks={mark.ticks}"
