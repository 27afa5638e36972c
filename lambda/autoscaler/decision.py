"""The decision table: one pure function from an observation to an action.

`decide()` is the only entry point. It starts, stops and restarts one machine (here), or scales out a fleet
(`autoscaler.fleet_decision`). The planner calls it too.
"""

from __future__ import annotations

from datetime import datetime

from autoscaler.fleet_decision import decide_fleet
from autoscaler.model import (
    Action,
    Config,
    Decision,
    Group,
    Instance,
    Snapshot,
    say_backlog,
    say_hold,
    whole_minutes,
)
from autoscaler.tags import ConditionKind, TrackedCondition
from contracts.capacity import CapacityMode
from contracts.heartbeat import Heartbeat, is_silent
from contracts.timestamps import format_time

__all__ = [
    "Action",
    "CapacityMode",
    "Config",
    "Decision",
    "Group",
    "Instance",
    "Snapshot",
    "decide",
]


def decide(snapshot: Snapshot, config: Config) -> Decision:
    """Say what to do; the first match wins. In a transitional state the only action is a forced stop."""
    if config.capacity_mode is CapacityMode.FLEET:
        return decide_fleet(snapshot, config)
    instance = snapshot.instance
    if instance is None:
        return Decision(Action.ALARM, "no instance carries the processor's role tag")
    decision = _decide(snapshot, instance, config)
    if not instance.others:
        return decision
    note = f"{decision.reason} ({instance.others} older instance(s) with the same role tag ignored)"
    return Decision(decision.action, note, decision.condition)


def _decide(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:  # noqa: PLR0911 - a row each
    if instance.hold and instance.hold.active_at(snapshot.now):
        return Decision(Action.NONE, say_hold(instance.hold))
    match instance.state:
        case "stopped" if snapshot.backlog and _crashed_lately(instance.heartbeat, snapshot.now, config):
            pause = f"it is tried again {whole_minutes(config.crash_pause)} min after that"
            return Decision(
                Action.NONE, f"the worker crashed in a loop; {pause}; waiting with {say_backlog(snapshot)}"
            )
        case "stopped" if snapshot.backlog:
            return Decision(Action.START, f"stopped with {say_backlog(snapshot)}")
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
        case state:  # pending, shutting-down, and any state EC2 may add
            return Decision(Action.NONE, f"waiting: the instance is {state}")


def _stopping(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    condition = _condition_of_this_run(instance, ConditionKind.STOPPING) or TrackedCondition(
        ConditionKind.STOPPING, snapshot.now
    )
    for_ = snapshot.now - condition.since
    if for_ > config.stuck_stopping:
        return Decision(Action.FORCE_STOP, f"stuck in stopping for {whole_minutes(for_)} min", condition)
    return Decision(Action.NONE, "waiting: the instance is stopping", condition)


def _working(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    backlog = say_backlog(snapshot)
    if not is_silent(instance.heartbeat, snapshot.now, config.heartbeat_grace):
        crashed = instance.heartbeat is not None and instance.heartbeat.crashed
        state = "crashed in a loop, and its machine stops" if crashed else "is alive"
        return Decision(Action.NONE, f"the worker {state}, with {backlog}")
    restarted = _condition_of_this_run(instance, ConditionKind.RESTARTED)
    booted = restarted.since if restarted else instance.launch_time
    if snapshot.now - booted <= config.boot_grace:
        return Decision(Action.NONE, f"booting, with {backlog}", restarted)
    silence = f"last heartbeat {format_time(instance.heartbeat.at)}" if instance.heartbeat else "no heartbeat"
    times = restarted.ticks + 1 if restarted else 1
    return Decision(
        Action.RESTART,
        f"{backlog}, and the worker is silent ({silence}); restart {times} in a row",
        TrackedCondition(ConditionKind.RESTARTED, snapshot.now, times),
    )


def _idle(snapshot: Snapshot, instance: Instance, config: Config) -> Decision:
    heartbeat = instance.heartbeat
    if heartbeat and heartbeat.job and not is_silent(heartbeat, snapshot.now, config.heartbeat_grace):
        return Decision(Action.NONE, f"the queue is empty, but the worker is busy with {heartbeat.job}")
    idle = _condition_of_this_run(instance, ConditionKind.IDLE)
    ticks = idle.ticks + 1 if idle else 1
    condition = TrackedCondition(ConditionKind.IDLE, idle.since if idle else snapshot.now, ticks)
    uptime = snapshot.now - instance.launch_time
    if ticks >= config.idle_ticks and uptime >= config.min_uptime:
        return Decision(Action.STOP, f"idle for {ticks} ticks in a row, up {whole_minutes(uptime)} min", condition)
    return Decision(Action.NONE, f"idle, tick {ticks} of {config.idle_ticks}", condition)


def _condition_of_this_run(instance: Instance, kind: ConditionKind) -> TrackedCondition | None:
    """The tracked condition, unless it is of another kind or older than the last start."""
    condition = instance.condition
    started = instance.launch_time.replace(microsecond=0)  # the tag keeps whole seconds
    if condition is None or condition.kind is not kind or condition.since < started:
        return None
    return condition


def _crashed_lately(heartbeat: Heartbeat | None, now: datetime, config: Config) -> bool:
    return heartbeat is not None and heartbeat.crashed and abs(now - heartbeat.at) <= config.crash_pause
