"""The timeline of one lesson, from the autoscaler's and the worker's logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ops.aws.logs import LogEvent

_STARTS = {"start", "scale_out"}


@dataclass(frozen=True)
class Moment:
    name: str
    time: datetime | None
    detail: str = ""


def timeline(events: Sequence[LogEvent], job_id: str, uploaded: datetime, stopped: datetime) -> list[Moment]:
    """From the upload to the stopped instance. A moment that is in no log has no time."""

    def first(name: str, accept: Callable[[LogEvent], bool], detail: str = "") -> Moment:
        found = next((e for e in events if e.time >= uploaded and accept(e)), None)
        return Moment(name, found.time if found else None, detail.format(**found.fields) if found else "")

    return [
        Moment("uploaded", uploaded),
        first(
            "started",
            lambda e: e.fields.get("action") in {"start", "scale_out"},
            "autoscaler ({trigger}): {reason}",
        ),
        first("first poll", lambda e: e.fields.get("event") == "polling_started"),
        first(
            "transcribed",
            lambda e: e.fields.get("event") == "job_completed" and e.fields.get("job_id") == job_id,
            "{audio_seconds} s of audio in {processing_seconds} s",
        ),
        first("stop asked for", lambda e: e.fields.get("event") == "instance_stopping", "{reason}"),
        Moment("stopped", stopped),
    ]
