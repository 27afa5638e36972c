"""What is written into tags is read back, and a tag edited by hand never stops the autoscaler."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.tags import (
    HEARTBEAT_TAG,
    HOLD_TAG,
    ROLE_PROCESSOR,
    ROLE_TAG,
    ROLL_TAG,
    Condition,
    Heartbeat,
    Hold,
    Mark,
    format_heartbeat,
    format_hold,
    format_mark,
    parse_heartbeat,
    parse_hold,
    parse_mark,
)
from ops.aws import connection
from whisper_processor import contracts

moments = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive limits
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=0))
jobs = st.text("abcdef0123456789-", min_size=1, max_size=36)


@given(st.builds(Mark, st.sampled_from(Condition), moments, st.integers(0, 999)))
def test_a_mark_is_read_back(mark: Mark) -> None:
    assert parse_mark(format_mark(mark)) == mark


@given(st.builds(Hold, st.text("abc.@-", min_size=1, max_size=30), moments))
def test_a_hold_is_read_back(hold: Hold) -> None:
    assert parse_hold(format_hold(hold)) == hold


@given(moments, st.none() | jobs, st.integers(0, 100))
def test_a_heartbeat_is_read_back(at: datetime, job: str | None, percent: int) -> None:
    read = parse_heartbeat(format_heartbeat(Heartbeat(at, job, percent)))
    assert read == Heartbeat(at, job, percent if job else 0)
    assert parse_heartbeat(format_heartbeat(Heartbeat(at, crashed=True))) == Heartbeat(at, crashed=True)


@given(st.text())
def test_any_text_can_stand_in_a_tag(text: str) -> None:
    parse_mark(text)
    parse_heartbeat(text)
    hold = parse_hold(text)
    assert hold is not None
    assert hold.until is not None or hold.active(datetime.now(UTC)), "an unreadable hold holds until removed"


def test_lambda_and_verbs_agree_on_the_tag_of_a_roll_out() -> None:
    assert connection.ROLL_TAG == ROLL_TAG


def test_lambda_and_processor_agree_on_the_tags_they_share() -> None:
    """The function imports nothing of the processor, so that its zip stays its own; this keeps both equal."""
    assert (ROLE_TAG, ROLE_PROCESSOR, HOLD_TAG, HEARTBEAT_TAG) == (
        contracts.ROLE_TAG,
        contracts.ROLE_PROCESSOR,
        contracts.HOLD_TAG,
        contracts.HEARTBEAT_TAG,
    )
