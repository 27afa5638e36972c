"""What is seen at a tick, what is configured, and what is decided: the words of the decision table."""

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
    """A machine whose worker crashed in a loop is tried again after this, not every minute."""

    capacity_mode: CapacityMode = CapacityMode.INSTANCE
    # What follows matters to a fleet alone.
    target_wait: timedelta = timedelta(minutes=15)
    """What waits now is to be transcribed within this."""
    boot: timedelta = timedelta(minutes=2)
    """From asking for a machine to its first poll."""
    audio_minutes_per_minute: float = 30.0
    """How fast one worker is: minutes of audio in a minute."""
    mean_lesson_minutes: float = 45.0
    """How long a lesson is taken to be while no upload has told."""
    scale_out_cooldown: timedelta = timedelta(minutes=1)
    """So long what was asked for is given time to come up before more is asked for."""


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
    """What the Auto Scaling group says of itself, and its machines' tags of them."""

    name: str
    desired: int
    maximum: int
    minimum: int = 0
    in_service: int = 0
    pending: int = 0
    leaving: int = 0
    """On their way out: no longer part of `desired`."""
    hold: Hold | None = None
    last_scale_out: datetime | None = None
    """When the desired capacity was last raised, from the group's own activity history."""
    last_crash: datetime | None = None
    """When a worker last crashed in a loop."""
    launch_failure: str | None = None
    """Why the latest launch failed, if it did: no capacity, a quota."""
    oldest_launch: datetime | None = None
    """When the machine was launched that has been up longest."""
    silent: tuple[str, ...] = ()
    """Machines in service whose worker has given no sign of life for longer than it may."""


@dataclass(frozen=True)
class Snapshot:
    now: datetime
    instance: Instance | None
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0
    upload_event: bool = False
    group: Group | None = None
    """In fleet mode; None: there is no such group."""
    audio_minutes: float | None = None
    """The backlog in minutes of audio; None while nothing tells how long lessons are."""

    @property
    def backlog(self) -> int:
        """Work known of. In-flight messages count: without them a busy worker would be stopped.

        The backend sends its message after the upload, so an upload counts as one while the queue is empty.
        """
        queued = self.visible + self.in_flight + self.delayed
        return queued or int(self.upload_event)


@dataclass(frozen=True)
class Decision:
    action: Action
    reason: str
    condition: TrackedCondition | None = None
    """What the instance's tag should say from now on; None: no tag."""
    desired: int | None = None
    """Scaling out: the group's new desired capacity, always above the present one."""
    needed: int | None = None
    """A fleet's workers that the backlog asks for, whatever the maximum allows; None where it was not asked."""


def say_hold(hold: Hold) -> str:
    if hold.until is None:
        return f"held; the hold tag is malformed and honoured until removed: {hold.by!r}"
    return f"held by {hold.by} until {format_time(hold.until)}"


def say_backlog(snapshot: Snapshot) -> str:
    queued = f"visible {snapshot.visible}, in flight {snapshot.in_flight}, delayed {snapshot.delayed}"
    return f"backlog {snapshot.backlog} ({queued}{', upload' if snapshot.upload_event else ''})"


def whole_minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
