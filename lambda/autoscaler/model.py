"""The terms of the decision table: what a tick observes, what is configured, and what is decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from autoscaler.tags import TrackedCondition
from contracts.capacity import CapacityMode
from contracts.heartbeat import SILENT_AFTER, Heartbeat
from contracts.hold import Hold
from contracts.timestamps import format_time


class Action(StrEnum):
    NONE = "none"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FORCE_STOP = "force_stop"
    SCALE_OUT = "scale_out"
    ALARM = "alarm"


@dataclass(frozen=True)
class Config:
    idle_ticks: int = 5
    min_uptime: timedelta = timedelta(minutes=3)
    heartbeat_grace: timedelta = SILENT_AFTER
    boot_grace: timedelta = timedelta(minutes=5)
    stuck_stopping: timedelta = timedelta(minutes=10)
    crash_pause: timedelta = timedelta(minutes=30)
    """How long to wait before starting a machine whose worker crashed in a loop."""

    capacity_mode: CapacityMode = CapacityMode.INSTANCE
    # For a fleet only:
    target_wait: timedelta = timedelta(minutes=15)
    """The backlog is to be transcribed within this."""
    boot: timedelta = timedelta(minutes=2)
    """From asking for a machine to its first poll."""
    audio_minutes_per_minute: float = 30.0
    """The speed of one worker."""
    mean_lesson_minutes: float = 45.0
    """The assumed length of a lesson until some have been measured."""
    scale_out_cooldown: timedelta = timedelta(minutes=1)
    """The time new machines get to come up before the autoscaler asks for more."""


@dataclass(frozen=True)
class Instance:
    id: str
    state: str
    launch_time: datetime
    """EC2 renews it at each start, not at a reboot."""
    hold: Hold | None = None
    heartbeat: Heartbeat | None = None
    condition: TrackedCondition | None = None
    others: int = 0
    """How many older instances carry the same role tag."""


@dataclass(frozen=True)
class Group:
    """The Auto Scaling group as AWS describes it, and what its machines' tags say."""

    name: str
    desired: int
    maximum: int
    minimum: int = 0
    in_service: int = 0
    pending: int = 0
    leaving: int = 0
    """Terminating: no longer part of `desired`."""
    hold: Hold | None = None
    last_scale_out: datetime | None = None
    """When the desired capacity was last raised, from the group's own activity history."""
    last_crash: datetime | None = None
    """When a worker last crashed in a loop."""
    launch_failure: str | None = None
    """Why the latest launch failed, if it did: for example no capacity, or a quota."""
    oldest_launch: datetime | None = None
    """When the oldest machine was launched."""
    silent: tuple[str, ...] = ()
    """Machines in service whose heartbeat is older than allowed."""


@dataclass(frozen=True)
class Snapshot:
    now: datetime
    instance: Instance | None
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0
    upload_event: bool = False
    group: Group | None = None
    """In fleet mode; None when the group does not exist."""
    audio_minutes: float | None = None
    """The backlog in minutes of audio; None until some lessons have been measured."""

    @property
    def backlog(self) -> int:
        """Messages that still need work. In-flight ones count: otherwise a busy worker would be stopped.

        The backend sends its message after the upload, so an upload counts as one while the queue is empty.
        """
        queued = self.visible + self.in_flight + self.delayed
        return queued or int(self.upload_event)


@dataclass(frozen=True)
class Decision:
    action: Action
    reason: str
    condition: TrackedCondition | None = None
    """What the instance's tag is to say from now on; None removes the tag."""
    desired: int | None = None
    """The group's new desired capacity when scaling out; always above the present one."""
    needed: int | None = None
    """How many workers the backlog needs, whatever the maximum; None where that was not computed."""


def say_hold(hold: Hold) -> str:
    if hold.until is None:
        return f"held; the hold tag is malformed and honoured until removed: {hold.by!r}"
    return f"held by {hold.by} until {format_time(hold.until)}"


def say_backlog(snapshot: Snapshot) -> str:
    queued = f"visible {snapshot.visible}, in flight {snapshot.in_flight}, delayed {snapshot.delayed}"
    return f"backlog {snapshot.backlog} ({queued}{', upload' if snapshot.upload_event else ''})"


def whole_minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
