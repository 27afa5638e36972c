"""A fleet's decision table, and what must hold whatever is seen."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.decision import Action, Config, Decision, Group, Snapshot, decide
from contracts.capacity import CapacityMode
from contracts.hold import Hold

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
# One worker does 10 min of audio a minute for 10 min: 100 min of audio, two lessons.
CONFIG = Config(
    capacity_mode=CapacityMode.FLEET,
    target_wait=12 * MINUTE,
    boot=2 * MINUTE,
    audio_minutes_per_minute=10,
    mean_lesson_minutes=50,
    scale_out_cooldown=3 * MINUTE,
)
HELD = Hold("anna", NOW + MINUTE)


def group(desired: int = 0, maximum: int = 10, **more: object) -> Group:
    return replace(Group("fleet", desired, maximum), **more)  # type: ignore[arg-type]


def ago(minutes: float) -> datetime:
    return NOW - minutes * MINUTE


def look(seen: Group | None, visible: int = 0, **more: object) -> Decision:
    return decide(replace(Snapshot(NOW, None, visible, group=seen), **more), CONFIG)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "backlog", "action", "desired"),
    [
        pytest.param(None, 1, Action.ALARM, None, id="no group"),
        pytest.param(group(hold=HELD), 9, Action.NONE, None, id="held: not scaled"),
        pytest.param(group(hold=Hold("?", None)), 9, Action.NONE, None, id="an unreadable hold holds"),
        pytest.param(group(hold=Hold("anna", ago(1))), 2, Action.SCALE_OUT, 1, id="the hold is over"),
        pytest.param(group(), 0, Action.NONE, None, id="nothing to do"),
        pytest.param(group(3), 0, Action.NONE, None, id="idle workers leave by themselves"),
        pytest.param(group(), 1, Action.SCALE_OUT, 1, id="one lesson, one worker"),
        pytest.param(group(), 2, Action.SCALE_OUT, 1, id="two lessons fit one worker"),
        pytest.param(group(), 3, Action.SCALE_OUT, 2, id="a third needs another"),
        pytest.param(group(), 40, Action.SCALE_OUT, 10, id="no more than the maximum"),
        pytest.param(group(2), 4, Action.NONE, None, id="enough"),
        pytest.param(group(2), 5, Action.SCALE_OUT, 3, id="no longer enough"),
        pytest.param(group(5), 2, Action.NONE, None, id="too many are not sent away"),
        pytest.param(group(10), 99, Action.NONE, None, id="at the maximum"),
        pytest.param(group(12), 99, Action.NONE, None, id="above a lowered maximum"),
        pytest.param(group(2, last_scale_out=ago(2)), 9, Action.NONE, None, id="cooling down"),
        pytest.param(group(2, last_scale_out=ago(4)), 9, Action.SCALE_OUT, 5, id="cooled down"),
        pytest.param(group(2, last_scale_out=ago(-60)), 9, Action.SCALE_OUT, 5, id="a future scale-out"),
        pytest.param(group(0, last_scale_out=ago(2)), 9, Action.SCALE_OUT, 5, id="no cooldown from nothing"),
        pytest.param(group(last_crash=ago(2)), 9, Action.NONE, None, id="after a crash loop it rests"),
        pytest.param(group(last_crash=ago(31)), 9, Action.SCALE_OUT, 5, id="for half an hour"),
        pytest.param(group(1, last_crash=ago(2)), 9, Action.SCALE_OUT, 5, id="unless others work"),
        pytest.param(group(1, 1, in_service=1), 9, Action.NONE, None, id="a fleet of one"),
    ],
)
def test_each_row_of_the_table(seen: Group | None, backlog: int, action: Action, desired: int | None) -> None:
    decision = look(seen, backlog)
    assert (decision.action, decision.desired) == (action, desired)
    assert decision.reason


def test_in_flight_and_delayed_lessons_count_as_those_that_wait() -> None:
    assert look(group(), 1, in_flight=1, delayed=1).desired == look(group(), 3).desired


def test_an_upload_is_a_backlog_of_one_while_the_queue_is_still_empty() -> None:
    assert look(group(), upload_event=True).desired == 1


def test_minutes_of_audio_that_are_known_win_over_the_mean() -> None:
    assert look(group(), 8, audio_minutes=8.0).desired == 1
    assert look(group(), 8, audio_minutes=701.0).desired == 8
    assert look(group(), 8, audio_minutes=0.0).desired == 1, "a backlog is never nothing"


def test_there_are_never_more_workers_than_lessons() -> None:
    assert look(group(), 3, audio_minutes=6 * 60.0).desired == 3


def test_a_target_shorter_than_the_boot_still_gives_a_number() -> None:
    hurried = replace(CONFIG, target_wait=MINUTE, boot=2 * MINUTE)
    decision = decide(Snapshot(NOW, None, visible=9, group=group()), hurried)
    assert decision.desired == 9


def test_the_reason_explains_the_numbers() -> None:
    reason = look(group(1, 3, in_service=1, launch_failure="no Spot capacity"), 9).reason
    for number in (
        "from 1 to 3",
        "backlog 9",
        "450 min of audio, assumed",
        "5 needed",
        "10 min of audio a minute",
        "within 12 min",
        "maximum of 3",
        "no Spot capacity",
    ):
        assert number in reason


def test_the_need_is_told_although_the_maximum_is_lower() -> None:
    assert look(group(3, 3), 9).needed == 5


moments = st.integers(-90, 90).map(lambda minutes: NOW + minutes * MINUTE)
few = st.integers(0, 6)
groups = st.builds(
    Group,
    st.just("fleet"),
    desired=st.integers(0, 30),
    maximum=st.integers(0, 30),
    in_service=few,
    pending=few,
    leaving=few,
    hold=st.none() | st.builds(Hold, st.text(min_size=1, max_size=9), st.none() | moments),
    last_scale_out=st.none() | moments,
    last_crash=st.none() | moments,
)
snapshots = st.builds(
    Snapshot,
    st.just(NOW),
    st.none(),
    st.integers(0, 500),
    few,
    few,
    st.booleans(),
    st.none() | groups,
    st.none() | st.floats(0, 1e6),
)


@given(snapshots)
def test_a_fleet_is_never_scaled_in_and_never_above_its_maximum(snapshot: Snapshot) -> None:
    decision = decide(snapshot, CONFIG)
    assert decision.action in {Action.NONE, Action.SCALE_OUT, Action.ALARM}
    assert (decision.desired is not None) == (decision.action is Action.SCALE_OUT)
    if decision.desired is not None:
        assert snapshot.group is not None
        assert snapshot.group.desired < decision.desired <= snapshot.group.maximum


@given(snapshots, st.integers(1, 50))
def test_more_lessons_never_ask_for_fewer_workers(snapshot: Snapshot, more: int) -> None:
    audio = snapshot.audio_minutes
    larger = replace(
        snapshot, visible=snapshot.visible + more, audio_minutes=None if audio is None else audio + more
    )
    before, after = decide(snapshot, CONFIG), decide(larger, CONFIG)
    assert (after.needed or 0) >= (before.needed or 0)
    assert (after.desired or 0) >= (before.desired or 0)


@given(snapshots)
def test_a_scale_out_carried_out_is_not_decided_again(snapshot: Snapshot) -> None:
    first = decide(snapshot, CONFIG)
    assert first == decide(snapshot, CONFIG)
    assert first.reason
    if first.desired is not None and snapshot.group is not None:
        after = replace(snapshot.group, desired=first.desired, last_scale_out=NOW)
        assert decide(replace(snapshot, group=after), CONFIG).action is Action.NONE


@given(snapshots)
def test_a_hold_that_lasts_means_no_action(snapshot: Snapshot) -> None:
    if snapshot.group and snapshot.group.hold and snapshot.group.hold.active_at(NOW):
        assert decide(snapshot, CONFIG).action is Action.NONE


@given(snapshots)
def test_work_always_gets_a_worker_unless_a_person_a_limit_or_a_crash_says_otherwise(snapshot: Snapshot) -> None:
    seen = snapshot.group
    free = seen and not seen.hold and not seen.last_crash and seen.maximum
    if seen and free and snapshot.backlog and seen.desired == 0:
        assert decide(snapshot, CONFIG).action is Action.SCALE_OUT


@given(snapshots, st.floats(0.5, 100), st.floats(0.5, 100))
def test_a_faster_worker_never_needs_more_company(snapshot: Snapshot, one: float, other: float) -> None:
    slow, fast = sorted((one, other))

    def needed(speed: float) -> float:
        return decide(snapshot, replace(CONFIG, audio_minutes_per_minute=speed)).needed or 0

    assert needed(fast) <= needed(slow)
    assert math.isfinite(needed(slow))
