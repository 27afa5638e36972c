"""The hold: an operator keeps the autoscaler and the worker from starting and stopping the instance.

It is a tag on the instance or the group, `by=<operator>;until=<instant>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from contracts.tags import MAX_VALUE_LENGTH
from contracts.timestamps import format_time, parse_time

_FORMAT = re.compile(r"by=(?P<by>.+);until=(?P<until>[^;]+)")


@dataclass(frozen=True)
class Hold:
    by: str
    until: datetime | None
    """None when the tag cannot be read. Somebody meant a hold, so it counts until the tag is removed."""

    def active_at(self, now: datetime) -> bool:
        return self.until is None or now < self.until


def parse_hold(text: str | None) -> Hold | None:
    """Read the hold tag's value; None without one. A value that cannot be read is a hold without an end."""
    if text is None:
        return None
    match = _FORMAT.fullmatch(text)
    until = parse_time(match["until"]) if match else None
    return Hold(match["by"], until) if match and until else Hold(text, None)


def format_hold(hold: Hold) -> str:
    """The tag's value, within EC2's limit: a long name is cut."""
    if hold.until is None:
        return hold.by[:MAX_VALUE_LENGTH]
    end = f";until={format_time(hold.until)}"
    return f"by={hold.by}"[: MAX_VALUE_LENGTH - len(end)] + end
