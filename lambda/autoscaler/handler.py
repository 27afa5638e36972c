"""One tick: see, decide, act, and say all of it in one log line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config as ClientConfig

from autoscaler.aws import Cloud, Outcome
from autoscaler.decision import Config, Decision, Snapshot, decide
from autoscaler.marks import format_heartbeat, format_hold, format_mark, format_time
from autoscaler.metrics import metrics_line

if TYPE_CHECKING:
    from collections.abc import Callable

AUDIO_PREFIX = "audio-files/"

_CLIENT_CONFIG = ClientConfig(
    # A tick that waits is worth less than the next one.
    connect_timeout=3,
    read_timeout=5,
    retries={"mode": "standard", "total_max_attempts": 2},
)


class Trigger(StrEnum):
    SCHEDULE = "schedule"
    UPLOAD = "upload"
    MANUAL = "manual"


@dataclass(frozen=True)
class Settings:
    queue_url: str
    dry_run: bool
    config: Config

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        defaults = Config()

        def minutes(name: str, default: timedelta) -> timedelta:
            return timedelta(minutes=float(env[name])) if env.get(name) else default

        return cls(
            queue_url=env["QUEUE_URL"],
            dry_run=env.get("DRY_RUN", "").lower() in ("true", "1", "yes"),
            config=Config(
                idle_ticks=int(env.get("IDLE_TICKS") or defaults.idle_ticks),
                min_uptime=minutes("MIN_UPTIME_MINUTES", defaults.min_uptime),
                heartbeat_grace=minutes("HEARTBEAT_GRACE_MINUTES", defaults.heartbeat_grace),
                boot_grace=minutes("BOOT_GRACE_MINUTES", defaults.boot_grace),
            ),
        )


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry. An unexpected error is logged and raised again, so that the Errors alarm fires."""
    trigger = trigger_of(event)
    try:
        settings = Settings.from_env(os.environ)
        cloud = Cloud(
            boto3.client("ec2", config=_CLIENT_CONFIG),
            boto3.client("sqs", config=_CLIENT_CONFIG),
            settings.queue_url,
        )
        return tick(
            cloud,
            settings.config,
            trigger=trigger,
            upload_event=trigger is Trigger.UPLOAD and names_audio(event),
            dry_run=settings.dry_run or event.get("dryRun") is True,
        )
    except Exception as error:
        _print({"event": "tick_failed", "trigger": trigger, "error": f"{type(error).__name__}: {error}"})
        raise


def tick(
    cloud: Cloud,
    config: Config,
    *,
    trigger: Trigger,
    upload_event: bool = False,
    dry_run: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    # Marks keep whole seconds, so time does too: what is written compares equal to what is read back.
    now = clock().replace(microsecond=0)
    snapshot = cloud.observe(now, upload_event=upload_event)
    decision = decide(snapshot, config)
    outcome = Outcome.DRY_RUN if dry_run else cloud.act(snapshot, decision)
    line = _tick_line(trigger, snapshot, decision, outcome)
    _print(line)
    _print(metrics_line(snapshot, decision, outcome))
    return line


def trigger_of(event: Mapping[str, Any]) -> Trigger:
    if event.get("source") == "aws.events":
        return Trigger.SCHEDULE
    return Trigger.UPLOAD if _created_objects(event) else Trigger.MANUAL


def names_audio(event: Mapping[str, Any]) -> bool:
    """Whether a lesson was uploaded: the bucket holds more than lessons, transcripts above all."""
    return any(
        unquote_plus(record["s3"]["object"]["key"]).startswith(AUDIO_PREFIX) for record in _created_objects(event)
    )


def _created_objects(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        record
        for record in event.get("Records", [])
        if record.get("eventSource") == "aws:s3" and "ObjectCreated" in record.get("eventName", "")
    ]


def _tick_line(trigger: Trigger, snapshot: Snapshot, decision: Decision, outcome: Outcome) -> dict[str, Any]:
    instance = snapshot.instance
    return {
        "event": "tick",
        "trigger": trigger,
        "snapshot": {
            "now": format_time(snapshot.now),
            "instance": instance
            and {
                "id": instance.id,
                "state": instance.state,
                "launchTime": format_time(instance.launch_time),
                "hold": instance.hold and format_hold(instance.hold),
                "heartbeat": instance.heartbeat and format_heartbeat(instance.heartbeat),
                "mark": instance.mark and format_mark(instance.mark),
                "others": instance.others,
            },
            "visible": snapshot.visible,
            "inFlight": snapshot.in_flight,
            "delayed": snapshot.delayed,
            "uploadEvent": snapshot.upload_event,
            "backlog": snapshot.backlog,
        },
        "action": decision.action,
        "reason": decision.reason,
        "mark": decision.mark and format_mark(decision.mark),
        "outcome": outcome,
    }


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201 - stdout is a Lambda's log
