"""Every row of the decision table, and what must hold whatever is seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision import Action, Config, Instance, Snapshot, decide
from autoscaler.tags import ConditionKind, TrackedCondition
from contracts.heartbeat import Heartbeat
from contracts.hold import Hold

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
CONFIG = Config()
MINUTE = timedelta(minutes=1)
TRANSITIONAL = ("pending", "stopping", "shutting-down")
ACTING = {Action.START, Action.STOP, Action.RESTART, Action.FORCE_STOP}


def instance(  # a machine up for an hour, unless told otherwise
    state: str = "running",
    *,
    up: timedelta = timedelta(hours=1),
    hold: Hold | None = None,
    heartbeat: Heartbeat | None = None,
    condition: TrackedCondition | None = None,
) -> Instance:
    return Instance("i-1", state, NOW - up, hold, heartbeat, condition)


def ago(minutes: float) -> datetime:
    return NOW - minutes * MINUTE


HELD = Hold("anna", NOW + MINUTE)
FRESH = Heartbeat(ago(1), "job", 40)
CRASHED = Heartbeat(ago(2), crashed=True)
STALE = Heartbeat(ago(30), "job", 40)
NEARLY_IDLE = TrackedCondition(ConditionKind.IDLE, ago(4), CONFIG.idle_ticks - 1)


@pytest.mark.parametrize(
    ("seen", "visible", "in_flight", "delayed", "action"),
    [
        pytest.param(instance("stopped", hold=HELD), 5, 0, 0, Action.NONE, id="held and stopped: not started"),
        pytest.param(
            instance(hold=HELD, condition=NEARLY_IDLE), 0, 0, 0, Action.NONE, id="held and idle: not stopped"
        ),
        pytest.param(
            instance("stopped", hold=Hold("anna", ago(1))), 1, 0, 0, Action.START, id="the hold is over: started"
        ),
        pytest.param(
            instance("stopped", hold=Hold("?", None)), 1, 0, 0, Action.NONE, id="an unreadable hold holds"
        ),
        pytest.param(instance("stopped"), 1, 0, 0, Action.START, id="visible work starts it"),
        pytest.param(instance("stopped"), 0, 1, 0, Action.START, id="work in flight starts it"),
        pytest.param(instance("stopped"), 0, 0, 1, Action.START, id="delayed work starts it"),
        pytest.param(instance("stopped"), 0, 0, 0, Action.NONE, id="stopped without work stays so"),
        pytest.param(
            instance("stopped", heartbeat=CRASHED),
            9,
            0,
            0,
            Action.NONE,
            id="after a crash loop it rests, work or not",
        ),
        pytest.param(
            instance("stopped", heartbeat=replace(CRASHED, at=ago(31))),
            9,
            0,
            0,
            Action.START,
            id="for half an hour",
        ),
        pytest.param(instance(heartbeat=CRASHED), 9, 0, 0, Action.NONE, id="a crashed machine stops by itself"),
        pytest.param(instance("pending"), 9, 0, 0, Action.NONE, id="pending is waited for"),
        pytest.param(instance("shutting-down"), 9, 0, 0, Action.NONE, id="shutting-down is waited for"),
        pytest.param(instance("stopping"), 9, 0, 0, Action.NONE, id="stopping is waited for"),
        pytest.param(
            instance("stopping", condition=TrackedCondition(ConditionKind.STOPPING, ago(10))),
            9,
            0,
            0,
            Action.NONE,
            id="for ten minutes",
        ),
        pytest.param(
            instance("stopping", condition=TrackedCondition(ConditionKind.STOPPING, ago(10.1))),
            9,
            0,
            0,
            Action.FORCE_STOP,
            id="no more",
        ),
        pytest.param(instance(heartbeat=FRESH), 9, 1, 0, Action.NONE, id="a live worker is left to its work"),
        pytest.param(instance(heartbeat=STALE), 9, 1, 0, Action.RESTART, id="a silent worker is restarted"),
        pytest.param(instance(), 9, 0, 0, Action.RESTART, id="one that never spoke is restarted"),
        pytest.param(instance(up=4 * MINUTE), 9, 0, 0, Action.NONE, id="but is given time to boot"),
        pytest.param(
            instance(heartbeat=STALE, condition=TrackedCondition(ConditionKind.RESTARTED, ago(2))),
            *(9, 0, 0, Action.NONE),
            id="also after a restart",
        ),
        pytest.param(
            instance(heartbeat=Heartbeat(NOW + 60 * MINUTE, "job", 1)), 9, 0, 0, Action.RESTART, id="a future beat"
        ),
        pytest.param(instance(), 0, 0, 0, Action.NONE, id="idle for one tick is not idle"),
        pytest.param(instance(condition=NEARLY_IDLE), 0, 0, 0, Action.STOP, id="idle for N ticks is stopped"),
        pytest.param(
            instance(up=2 * MINUTE, condition=TrackedCondition(ConditionKind.IDLE, ago(1), 9)),
            0,
            0,
            0,
            Action.NONE,
            id="minimum up time",
        ),
        pytest.param(
            instance(heartbeat=FRESH, condition=NEARLY_IDLE),
            0,
            0,
            0,
            Action.NONE,
            id="busy though the queue is empty",
        ),
        pytest.param(
            instance(up=3 * MINUTE, condition=TrackedCondition(ConditionKind.IDLE, ago(9), 9)),
            0,
            0,
            0,
            Action.NONE,
            id="ticks of an old run",
        ),
        pytest.param(instance("terminated"), 1, 0, 0, Action.ALARM, id="terminated"),
        pytest.param(None, 1, 0, 0, Action.ALARM, id="missing"),
    ],
)
def test_each_row_of_the_table(
    seen: Instance | None, visible: int, in_flight: int, delayed: int, action: Action
) -> None:
    decision = decide(Snapshot(NOW, seen, visible, in_flight, delayed), CONFIG)
    assert decision.action is action
    assert decision.reason


def test_an_upload_is_a_backlog_of_one_while_the_queue_is_still_empty() -> None:
    assert decide(Snapshot(NOW, instance("stopped"), upload_event=True), CONFIG).action is Action.START
    assert Snapshot(NOW, None, upload_event=True).backlog == 1
    assert Snapshot(NOW, None, visible=3, upload_event=True).backlog == 3


def test_a_hold_is_explained_by_who_and_until_when() -> None:
    reason = decide(Snapshot(NOW, instance(hold=HELD)), CONFIG).reason
    assert "anna" in reason
    assert "2026-03-02T08:01:00Z" in reason


def test_an_idle_instance_is_stopped_exactly_at_the_last_of_its_ticks() -> None:
    seen, actions = instance(), []
    for _ in range(CONFIG.idle_ticks):
        decision = decide(Snapshot(NOW, seen), CONFIG)
        actions.append(decision.action)
        seen = instance(condition=decision.condition)
    assert actions == [Action.NONE] * (CONFIG.idle_ticks - 1) + [Action.STOP]


def test_work_in_between_starts_the_count_of_idle_ticks_afresh() -> None:
    busy = decide(Snapshot(NOW, instance(heartbeat=FRESH, condition=NEARLY_IDLE), visible=1), CONFIG)
    assert busy.condition is None


moments = st.integers(-90, 90).map(lambda minutes: NOW + minutes * MINUTE)
heartbeats = st.none() | st.builds(
    Heartbeat, moments, st.none() | st.text("ab1-", min_size=1, max_size=9), st.integers(0, 100)
)
holds = st.none() | st.builds(Hold, st.text(min_size=1, max_size=9), st.none() | moments)
conditions = st.none() | st.builds(TrackedCondition, st.sampled_from(ConditionKind), moments, st.integers(0, 20))
states = st.sampled_from([*TRANSITIONAL, "running", "stopped", "terminated", "something-new"])
instances = st.builds(Instance, st.just("i-1"), states, moments, holds, heartbeats, conditions, st.integers(0, 2))
counts = st.integers(0, 3)
snapshots = st.builds(Snapshot, st.just(NOW), st.none() | instances, counts, counts, counts, st.booleans())


@given(snapshots)
def test_nothing_is_stopped_while_there_is_work(snapshot: Snapshot) -> None:
    if snapshot.backlog and snapshot.instance and snapshot.instance.state == "running":
        assert decide(snapshot, CONFIG).action not in {Action.STOP, Action.FORCE_STOP}


@given(snapshots)
def test_nothing_is_stopped_under_a_fresh_busy_heartbeat(snapshot: Snapshot) -> None:
    seen = snapshot.instance
    if seen and seen.heartbeat and seen.heartbeat.job and abs(NOW - seen.heartbeat.at) <= CONFIG.heartbeat_grace:
        assert decide(snapshot, CONFIG).action not in {Action.STOP, Action.RESTART}


@given(snapshots)
def test_a_transitional_state_is_acted_on_only_by_a_force_stop_after_ten_minutes(snapshot: Snapshot) -> None:
    seen = snapshot.instance
    if seen and seen.state in TRANSITIONAL:
        action = decide(snapshot, CONFIG).action
        assert action is Action.NONE or (
            action is Action.FORCE_STOP
            and seen.condition is not None
            and NOW - seen.condition.since > CONFIG.stuck_stopping
        )


@given(snapshots)
def test_a_hold_that_lasts_means_no_action(snapshot: Snapshot) -> None:
    if snapshot.instance and snapshot.instance.hold and snapshot.instance.hold.active_at(NOW):
        assert decide(snapshot, CONFIG).action is Action.NONE


@given(snapshots)
def test_the_same_sight_gives_the_same_decision_and_a_reason(snapshot: Snapshot) -> None:
    first = decide(snapshot, CONFIG)
    assert first == decide(snapshot, CONFIG)
    assert first.reason


@given(snapshots)
def test_a_start_is_not_repeated_once_the_state_has_changed(snapshot: Snapshot) -> None:
    if snapshot.instance and decide(snapshot, CONFIG).action is Action.START:
        assert snapshot.instance.state == "stopped"
        after = Instance("i-1", "pending", NOW)
        assert decide(Snapshot(NOW, after, snapshot.visible), CONFIG).action not in ACTING


@given(snapshots)
def test_nothing_is_stopped_with_work_in_any_state_but_one_stuck_on_its_way_down(snapshot: Snapshot) -> None:
    action = decide(snapshot, CONFIG).action
    if snapshot.backlog and action in {Action.STOP, Action.FORCE_STOP}:
        assert snapshot.instance is not None
        assert (action, snapshot.instance.state) == (Action.FORCE_STOP, "stopping")


@given(snapshots)
def test_a_decision_carried_out_is_not_decided_again(snapshot: Snapshot) -> None:
    """The tag is on the instance and the state has moved on: the next tick finds nothing to do."""
    seen, decision = snapshot.instance, decide(snapshot, CONFIG)
    if seen is None or decision.action not in ACTING:
        return
    moved = {
        Action.START: "pending",
        Action.STOP: "stopping",
        Action.FORCE_STOP: "stopped",
        Action.RESTART: "running",
    }
    launched = NOW if decision.action is Action.START else seen.launch_time
    after = Instance(seen.id, moved[decision.action], launched, None, seen.heartbeat, decision.condition)
    backlog = 0 if decision.action is Action.FORCE_STOP else snapshot.visible
    again = decide(Snapshot(NOW, after, backlog, snapshot.in_flight * (backlog > 0)), CONFIG)
    assert again.action not in ACTING
