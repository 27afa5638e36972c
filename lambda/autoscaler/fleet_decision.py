"""The decision table of a fleet: how many workers the backlog needs, and whether to ask the group for them now.

The autoscaler only scales out. A worker terminates its own machine and lowers the desired capacity with it,
because only the worker knows that it has nothing in hand. So no rule here can end a busy one.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from autoscaler.model import Action, Config, Decision, Group, Snapshot, say_backlog, say_hold, whole_minutes
from contracts.timestamps import format_time

_SHORTEST_WORK = timedelta(minutes=1)


def decide_fleet(snapshot: Snapshot, config: Config) -> Decision:
    """Say what to do; first match wins. `desired` is set when, and only when, the action is to scale out."""
    group = snapshot.group
    if group is None:
        return Decision(Action.ALARM, "there is no Auto Scaling group")
    if group.hold and group.hold.active_at(snapshot.now):
        return Decision(Action.NONE, say_hold(group.hold))
    if not snapshot.backlog:
        return Decision(Action.NONE, f"nothing to do; {_say_group(group)}; each worker leaves by itself", needed=0)
    if group.desired == 0 and _lately(group.last_crash, snapshot.now, config.crash_pause):
        pause = f"the fleet is tried again {whole_minutes(config.crash_pause)} min after that"
        return Decision(Action.NONE, f"a worker crashed in a loop; {pause}; waiting with {say_backlog(snapshot)}")
    return _scale_out(snapshot, group, config)


def _scale_out(snapshot: Snapshot, group: Group, config: Config) -> Decision:
    needed = workers_needed(snapshot, config)
    why = f"{say_backlog(snapshot)}, {_say_need(snapshot, config, needed)}; {_say_group(group)}"
    if needed <= group.desired:
        return Decision(Action.NONE, f"enough: {why}", needed=needed)
    if group.maximum <= group.desired:
        return Decision(Action.NONE, f"at the maximum of {group.maximum}: {why}", needed=needed)
    if group.desired and _lately(group.last_scale_out, snapshot.now, config.scale_out_cooldown):
        since = format_time(group.last_scale_out) if group.last_scale_out else ""
        minutes = whole_minutes(config.scale_out_cooldown)
        return Decision(Action.NONE, f"cooling down, {minutes} min since {since}: {why}", needed=needed)
    desired = min(needed, group.maximum)
    limit = f"; no more than the maximum of {group.maximum}" if desired < needed else ""
    reason = f"from {group.desired} to {desired} workers: {why}{limit}"
    return Decision(Action.SCALE_OUT, reason, desired=desired, needed=needed)


def workers_needed(snapshot: Snapshot, config: Config) -> int:
    """How many workers finish the backlog within the target wait, their boot included.

    That is the minutes of audio, divided by what one worker transcribes in the time left after its boot, rounded
    up. Any backlog needs one at least, and never more than there are lessons, because a lesson is not shared.
    """
    if not snapshot.backlog:
        return 0
    work = max(config.target_wait - config.boot, _SHORTEST_WORK)
    one_worker = config.audio_minutes_per_minute * work.total_seconds() / 60
    return max(1, min(math.ceil(_audio_minutes(snapshot, config) / one_worker), snapshot.backlog))


def _audio_minutes(snapshot: Snapshot, config: Config) -> float:
    if snapshot.audio_minutes is not None:
        return snapshot.audio_minutes
    return snapshot.backlog * config.mean_lesson_minutes


def _lately(moment: datetime | None, now: datetime, span: timedelta) -> bool:
    """A moment in the future does not count either: it would stay recent for too long."""
    return moment is not None and abs(now - moment) <= span


def _say_need(snapshot: Snapshot, config: Config, needed: int) -> str:
    known = "" if snapshot.audio_minutes is not None else ", assumed"
    return (
        f"{_audio_minutes(snapshot, config):.0f} min of audio{known}: {needed} needed at"
        f" {config.audio_minutes_per_minute:g} min of audio a minute, to be done within"
        f" {whole_minutes(config.target_wait)} min with {whole_minutes(config.boot)} min of boot"
    )


def _say_group(group: Group) -> str:
    states = [
        f"{count} {name}"
        for count, name in (
            (group.in_service, "in service"),
            (group.pending, "pending"),
            (group.leaving, "leaving"),
        )
        if count
    ]
    notes = [f" ({', '.join(states)})"] if states else []
    if group.silent:
        notes.append(f"; silent: {', '.join(group.silent)}")
    if group.launch_failure:
        notes.append(f"; the latest launch failed: {group.launch_failure}")
    return f"desired {group.desired} of {group.maximum}" + "".join(notes)
