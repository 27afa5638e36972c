"""The heartbeat: the worker's sign of life, a tag on its instance.

`<instant> idle`, `<instant> busy <job> <percent>%`, or `<instant> crashed`. The autoscaler reads it with the
instance's state, which it asks for anyway.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from contracts.tags import MAX_VALUE_LENGTH
from contracts.timestamps import format_time, parse_time

SILENT_AFTER = timedelta(minutes=5)
"""A worker that has not written its heartbeat for longer is silent. It writes one a minute."""

_FORMAT = re.compile(r"(?P<at>\S+) (?:idle|(?P<crashed>crashed)|busy (?P<job>\S+) (?P<percent>[0-9]{1,3})%)")
_NOT_IN_A_TAG = re.compile(r"[^A-Za-z0-9+\-=._:/@]")


@dataclass(frozen=True)
class Heartbeat:
    at: datetime
    job: str | None = None
    """None when the worker is idle."""
    percent: int = 0
    crashed: bool = False
    """The worker crashed in a loop, and its machine stopped for that reason."""


def parse_heartbeat(text: str | None) -> Heartbeat | None:
    """Read the heartbeat tag's value; None for no value and for one that cannot be read."""
    match = _FORMAT.fullmatch(text or "")
    at = parse_time(match["at"]) if match else None
    if match is None or at is None:
        return None
    return Heartbeat(at, match["job"], int(match["percent"] or 0), crashed=bool(match["crashed"]))


def format_heartbeat(heartbeat: Heartbeat) -> str:
    """The tag's value. In a job id, which is the backend's, `_` stands for each character a tag cannot hold."""
    at = format_time(heartbeat.at)
    if heartbeat.crashed:
        return f"{at} crashed"
    if not heartbeat.job:
        return f"{at} idle"
    job, percent = _NOT_IN_A_TAG.sub("_", heartbeat.job), f" {heartbeat.percent}%"
    return f"{at} busy {job}"[: MAX_VALUE_LENGTH - len(percent)] + percent


def is_silent(heartbeat: Heartbeat | None, now: datetime, after: timedelta = SILENT_AFTER) -> bool:
    """Whether there is no heartbeat, or none within `after`.

    A heartbeat far in the future is as bad as an old one: it would look fresh for ever.
    """
    return heartbeat is None or abs(now - heartbeat.at) > after
