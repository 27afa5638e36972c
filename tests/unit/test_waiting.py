"""Waiting: when it looks, when it gives up, and what it says meanwhile, on a clock of the test's own."""

from __future__ import annotations

import pytest

from ops.waiting import TooLong, every, say_changes, say_every, wait_for, wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_what_is_there_already_is_returned_without_a_pause(clock: Clock) -> None:
    assert wait_for(lambda: "there", 0, clock=clock, sleep=clock.sleep) == "there"
    assert clock.slept == []


@pytest.mark.parametrize("found", [0, "", False])
def test_only_none_means_not_yet(clock: Clock, found: object) -> None:
    assert wait_for(lambda: found, 0, clock=clock, sleep=clock.sleep) == found


def test_it_polls_until_it_finds_and_tells_the_seconds_so_far(clock: Clock) -> None:
    answers = iter([None, None, "there"])
    told: list[float] = []
    assert wait_for(lambda: next(answers), 10, told.append, poll=2.0, clock=clock, sleep=clock.sleep) == "there"
    assert told == [0.0, 2.0]
    assert clock.slept == [2.0, 2.0]


def test_it_gives_up_when_the_time_is_over_and_says_how_long_it_waited(clock: Clock) -> None:
    told: list[float] = []
    with pytest.raises(TooLong) as late:
        wait_until(lambda: False, 5, told.append, poll=2.0, clock=clock, sleep=clock.sleep)
    assert late.value.seconds == 6.0
    assert told == [0.0, 2.0, 4.0]


def test_an_error_while_looking_ends_the_wait(clock: Clock) -> None:
    def look() -> str | None:
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        wait_for(look, 10, clock=clock, sleep=clock.sleep)
    assert clock.slept == []


def test_a_condition_may_turn_true_at_the_last_look(clock: Clock) -> None:
    wait_until(lambda: clock.now >= 105, 5, clock=clock, sleep=clock.sleep)
    assert clock.now == 105


def test_progress_is_said_once_in_so_many_seconds() -> None:
    said: list[str] = []
    tell = say_every(10, said.append, "draining")
    for waited in (0.0, 4.0, 10.0, 12.0, 19.0, 20.0):
        tell(waited)
    assert said == ["draining for 10 s", "draining for 20 s"]


def test_what_is_done_every_so_often_may_end_the_wait(clock: Clock) -> None:
    def stop(_waited: float) -> None:
        raise ValueError("the machine stopped")

    with pytest.raises(ValueError, match="stopped"):
        wait_until(lambda: False, 60, every(10, stop), clock=clock, sleep=clock.sleep)
    assert clock.now == 110


def test_a_state_is_said_when_it_changes() -> None:
    said: list[str] = []
    tell = say_changes(said.append)
    for state in ("pending", "pending", "running", "running", "pending"):
        tell(state)
    assert said == ["pending", "running", "pending"]


def test_a_state_that_stays_is_said_again_after_a_while(clock: Clock) -> None:
    said: list[str] = []
    tell = say_changes(said.append, repeat_after=10, clock=clock)
    for _ in range(25):
        tell("pending")
        clock.now += 1
    assert said == ["pending"] * 3
