"""One tick: observe, decide, act, and log all of it in one line."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote_plus

import boto3
from botocore.config import Config as ClientConfig

from autoscaler.asg_adapter import GroupAdapter
from autoscaler.decision import Config, Decision, Group, Instance, Snapshot, decide
from autoscaler.instance_adapter import InstanceAdapter, Outcome
from autoscaler.metrics import metrics_line
from autoscaler.tags import format_condition
from contracts.capacity import CapacityMode
from contracts.heartbeat import format_heartbeat
from contracts.hold import format_hold
from contracts.keys import AUDIO_PREFIX
from contracts.timestamps import format_time

if TYPE_CHECKING:
    from collections.abc import Callable

_CLIENT_CONFIG = ClientConfig(
    # Fail soon: the next tick is a minute away.
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
    group_name: str
    """The Auto Scaling group; empty unless the capacity is a fleet."""
    dry_run: bool
    config: Config

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        return cls(
            queue_url=env["QUEUE_URL"],
            group_name=env.get("GROUP_NAME", ""),
            dry_run=env.get("DRY_RUN", "").lower() in ("true", "1", "yes"),
            config=config_from_env(env),
        )


def config_from_env(env: Mapping[str, str]) -> Config:
    """Each field of Config from the variable of its name: IDLE_TICKS. A span is in minutes: BOOT_MINUTES."""
    given: dict[str, Any] = {}
    for name, default in asdict(Config()).items():
        is_span = isinstance(default, timedelta)
        if text := env.get(name.upper() + ("_MINUTES" if is_span else "")):
            given[name] = timedelta(minutes=float(text)) if is_span else type(default)(text)
    return Config(**given)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry. An unexpected error is logged and raised again, so that the Errors alarm fires."""
    trigger = trigger_of(event)
    trial = event.get("dryRun") is True
    try:
        settings = Settings.from_env(os.environ)
        return tick(
            connect(settings),
            settings.config,
            trigger=trigger,
            upload_bytes=audio_bytes(event),
            dry_run=settings.dry_run or trial,
            measured=not trial,
        )
    except Exception as error:
        _print({"event": "tick_failed", "trigger": trigger, "error": f"{type(error).__name__}: {error}"})
        raise


class Adapter(Protocol):
    """Observes AWS and acts on it, for one machine or for a fleet."""

    def observe(self, now: datetime, *, upload_event: bool = False) -> Snapshot: ...

    def act(self, snapshot: Snapshot, decision: Decision) -> Outcome: ...


def connect(settings: Settings) -> Adapter:
    ec2 = boto3.client("ec2", config=_CLIENT_CONFIG)
    sqs = boto3.client("sqs", config=_CLIENT_CONFIG)
    if settings.config.capacity_mode is CapacityMode.INSTANCE:
        return InstanceAdapter(ec2, sqs, settings.queue_url)
    autoscaling = boto3.client("autoscaling", config=_CLIENT_CONFIG)
    cloudwatch = boto3.client("cloudwatch", config=_CLIENT_CONFIG)
    return GroupAdapter(
        autoscaling, ec2, sqs, cloudwatch, settings.queue_url, settings.group_name, settings.config
    )


def tick(
    adapter: Adapter,
    config: Config,
    *,
    trigger: Trigger,
    upload_bytes: int | None = None,
    dry_run: bool = False,
    measured: bool = True,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Observe, decide, act.

    `upload_bytes` is the size of the uploaded lesson that triggered the tick; None without one. `measured` is
    False for a dry run that proves a version: it must raise no alarm.
    """
    # The tag keeps whole seconds, so `now` does too: what is written equals what is read back.
    now = clock().replace(microsecond=0)
    snapshot = adapter.observe(now, upload_event=upload_bytes is not None)
    decision = decide(snapshot, config)
    outcome = Outcome.DRY_RUN if dry_run else adapter.act(snapshot, decision)
    line = _tick_line(trigger, snapshot, decision, outcome)
    _print(line)
    if measured:
        _print(metrics_line(snapshot, decision, outcome, upload_bytes))
    return line


def trigger_of(event: Mapping[str, Any]) -> Trigger:
    if event.get("source") == "aws.events":
        return Trigger.SCHEDULE
    return Trigger.UPLOAD if _created_objects(event) else Trigger.MANUAL


def audio_bytes(event: Mapping[str, Any]) -> int | None:
    """The mean size of the uploaded lessons. None for any other upload, such as a transcript, and for none."""
    sizes = [
        int(record["s3"]["object"].get("size", 0))
        for record in _created_objects(event)
        if unquote_plus(record["s3"]["object"]["key"]).startswith(AUDIO_PREFIX)
    ]
    return sum(sizes) // len(sizes) if sizes else None


def _created_objects(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        record
        for record in event.get("Records", [])
        if record.get("eventSource") == "aws:s3" and "ObjectCreated" in record.get("eventName", "")
    ]


def _tick_line(trigger: Trigger, snapshot: Snapshot, decision: Decision, outcome: Outcome) -> dict[str, Any]:
    instance, group = snapshot.instance, snapshot.group
    return {
        "event": "tick",
        "trigger": trigger,
        "snapshot": {
            "now": format_time(snapshot.now),
            "instance": instance and _say_instance(instance),
            **({"group": _say_group(group)} if group else {}),
            "visible": snapshot.visible,
            "inFlight": snapshot.in_flight,
            "delayed": snapshot.delayed,
            "uploadEvent": snapshot.upload_event,
            "backlog": snapshot.backlog,
            **({"audioMinutes": round(snapshot.audio_minutes, 1)} if snapshot.audio_minutes is not None else {}),
        },
        "action": decision.action,
        "reason": decision.reason,
        "condition": decision.condition and format_condition(decision.condition),
        **({"desired": decision.desired} if decision.desired is not None else {}),
        "outcome": outcome,
    }


def _say_instance(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "state": instance.state,
        "launchTime": format_time(instance.launch_time),
        "hold": instance.hold and format_hold(instance.hold),
        "heartbeat": instance.heartbeat and format_heartbeat(instance.heartbeat),
        "condition": instance.condition and format_condition(instance.condition),
        "others": instance.others,
    }


def _say_group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "desired": group.desired,
        "maximum": group.maximum,
        "inService": group.in_service,
        "pending": group.pending,
        "leaving": group.leaving,
        "hold": group.hold and format_hold(group.hold),
        "lastScaleOut": group.last_scale_out and format_time(group.last_scale_out),
        "lastCrash": group.last_crash and format_time(group.last_crash),
        "launchFailure": group.launch_failure,
        "silent": list(group.silent),
    }


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201 - stdout is a Lambda's log
