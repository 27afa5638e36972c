"""The decision table: one pure function from what is seen to what to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from autoscaler.marks import Condition, Heartbeat, Hold, Mark, format_time


class Action(StrEnum):
    NONE = "none"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    FORCE_STOP = "force_stop"
    ALARM = "alarm"


@dataclass(frozen=True)
class Config:
    idle_ticks: int = 5
    min_uptime: timedelta = timedelta(minutes=3)
    heartbeat_grace: timedelta = timedelta(minutes=5)
    boot_grace: timedelta = timedelta(minutes=5)
    stuck_stopping: timedelta = timedelta(minutes=10)
    crash_pause: timedelta = timedelta(minutes=30)
    """A machine whose worker crashed in a loop is tried again after this, not every minute."""


@dataclass(frozen=True)
class Instance:
    id: str
    state: str
    launch_time: datetime
    """EC2 renews it at each start, not at a reboot."""
    hold: Hold | None = None
    heartbeat: Heartbeat | None = None
    mark: Mark | None = None
    others: int = 0
    """How many older instances carry the same role tag."""


@dataclass(frozen=True)
class Snapshot:
    now: datetime
    instance: Instance | None
    visible: int = 0
    in_flight: int = 0
    delayed: int = 0
    upload_event: bool = False

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
    mark: Mark | None = None
    """What the instance's mark should say from now on; None: no mark."""


def decide(snapshot: Snapshot, config: Config) -> Decision:
    """Say what to do. First match wins; a transitional state is only ever acted on by a force stop."""
    instance = snapshot.instance
    if instance is None:
        return Decision(Action.ALARM, "no instance carries the processor's role tag")
    decision = _decide(snapshot, instance, config)
    if not instance.others:
        return decision
    note = f"{decision.reason} ({instance.others} older instance(s) with the same role tag ignored)"
    return Decision(decision.action, note, decision.mark)


def _decide(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:  # noqa: PLR0911 - a row each
    if instance.hold and instance.hold.active(snapshot.now):
        return Decision(Action.NONE, _say_hold(instance.hold))
    match instance.state:
        case "stopped" if snapshot.backlog and _crashed_lately(instance.heartbeat, snapshot.now, config):
            pause = f"it is tried again {_minutes(config.crash_pause)} min after that"
            return Decision(
                Action.NONE, f"the worker crashed in a loop; {pause}; waiting with {_say_backlog(snapshot)}"
            )
        case "stopped" if snapshot.backlog:
            return Decision(Action.START, f"stopped with {_say_backlog(snapshot)}")
        case "stopped":
            return Decision(Action.NONE, "stopped, and nothing to do")
        case "stopping":
            return _stopping(snapshot, instance, config)
        case "running" if snapshot.backlog:
            return _working(snapshot, instance, config)
        case "running":
            return _idle(snapshot, instance, config)
        case "terminated":
            return Decision(Action.ALARM, "the instance is terminated")
        case state:  # pending, shutting-down, and whatever EC2 may add
            return Decision(Action.NONE, f"waiting: the instance is {state}")


def _stopping(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    mark = _mark_of_this_run(instance, Condition.STOPPING) or Mark(Condition.STOPPING, snapshot.now)
    for_ = snapshot.now - mark.since
    if for_ > config.stuck_stopping:
        return Decision(Action.FORCE_STOP, f"stuck in stopping for {_minutes(for_)} min", mark)
    return Decision(Action.NONE, "waiting: the instance is stopping", mark)


def _working(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    backlog = _say_backlog(snapshot)
    if _fresh(instance.heartbeat, snapshot.now, config):
        crashed = instance.heartbeat is not None and instance.heartbeat.crashed
        state = "crashed in a loop, and its machine stops" if crashed else "is alive"
        return Decision(Action.NONE, f"the worker {state}, with {backlog}")
    restarted = _mark_of_this_run(instance, Condition.RESTARTED)
    booted = restarted.since if restarted else instance.launch_time
    if snapshot.now - booted <= config.boot_grace:
        return Decision(Action.NONE, f"booting, with {backlog}", restarted)
    silence = f"last heartbeat {format_time(instance.heartbeat.at)}" if instance.heartbeat else "no heartbeat"
    times = restarted.ticks + 1 if restarted else 1
    return Decision(
        Action.RESTART,
        f"{backlog}, and the worker is silent ({silence}); restart {times} in a row",
        Mark(Condition.RESTARTED, snapshot.now, times),
    )


def _idle(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    heartbeat = instance.heartbeat
    if heartbeat and heartbeat.job and _fresh(heartbeat, snapshot.now, config):
        return Decision(Action.NONE, f"the queue is empty, but the worker is busy with {heartbeat.job}")
    seen = _mark_of_this_run(instance, Condition.IDLE)
    ticks = seen.ticks + 1 if seen else 1
    mark = Mark(Condition.IDLE, seen.since if seen else snapshot.now, ticks)
    uptime = snapshot.now - instance.launch_time
    if ticks >= config.idle_ticks and uptime >= config.min_uptime:
        return Decision(Action.STOP, f"idle for {ticks} ticks in a row, up {_minutes(uptime)} min", mark)
    return Decision(Action.NONE, f"idle, tick {ticks} of {config.idle_ticks}", mark)


def _mark_of_this_run(instance: Instance, condition: Condition) -> Mark | None:
    """The mark, unless it tells of another condition or of a run before the last start."""
    mark = instance.mark
    started = instance.launch_time.replace(microsecond=0)  # marks keep whole seconds
    return mark if mark and mark.condition is condition and mark.since >= started else None


def _crashed_lately(heartbeat: Heartbeat | None, now: datetime, config: Config) -> bool:
    return heartbeat is not None and heartbeat.crashed and abs(now - heartbeat.at) <= config.crash_pause


def _fresh(heartbeat: Heartbeat | None, now: datetime, config: Config) -> bool:
    """A heartbeat far in the future is no better than an old one: it would stay fresh for ever."""
    return heartbeat is not None and abs(now - heartbeat.at) <= config.heartbeat_grace


def _say_hold(hold: Hold) -> str:
    if hold.until is None:
        return f"held; the hold tag is malformed and honoured until removed: {hold.by!r}"
    return f"held by {hold.by} until {format_time(hold.until)}"


def _say_backlog(snapshot: Snapshot) -> str:
    queued = f"visible {snapshot.visible}, in flight {snapshot.in_flight}, delayed {snapshot.delayed}"
    return f"backlog {snapshot.backlog} ({queued}{', upload' if snapshot.upload_event else ''})"


def _minutes(span: timedelta) -> int:
    return int(span.total_seconds() // 60)
