"""What is written into tags is read back, and a tag edited by hand never stops the autoscaler."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.tags import ConditionKind, TrackedCondition, format_condition, parse_condition
from contracts.heartbeat import SILENT_AFTER, Heartbeat, format_heartbeat, is_silent, parse_heartbeat
from contracts.hold import Hold, format_hold, parse_hold
from contracts.tags import MAX_VALUE_LENGTH
from ops.settings import REPOSITORY

moments = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis wants naive limits
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
).map(lambda moment: moment.replace(microsecond=0))
jobs = st.text("abcdef0123456789-", min_size=1, max_size=36)


@given(st.builds(TrackedCondition, st.sampled_from(ConditionKind), moments, st.integers(0, 999)))
def test_a_condition_is_read_back(condition: TrackedCondition) -> None:
    assert parse_condition(format_condition(condition)) == condition


@given(st.builds(Hold, st.text("abc.@-", min_size=1, max_size=30), moments))
def test_a_hold_is_read_back(hold: Hold) -> None:
    assert parse_hold(format_hold(hold)) == hold


@given(st.text(min_size=1, max_size=600).filter(lambda name: "\n" not in name), moments)
def test_a_hold_fits_a_tag_and_keeps_its_end_whoever_sets_it(name: str, until: datetime) -> None:
    text = format_hold(Hold(name, until))
    assert len(text) <= MAX_VALUE_LENGTH
    read = parse_hold(text)
    assert read is not None
    assert read.until == until


@given(moments, st.none() | jobs, st.integers(0, 100))
def test_a_heartbeat_is_read_back(at: datetime, job: str | None, percent: int) -> None:
    read = parse_heartbeat(format_heartbeat(Heartbeat(at, job, percent)))
    assert read == Heartbeat(at, job, percent if job else 0)
    assert parse_heartbeat(format_heartbeat(Heartbeat(at, crashed=True))) == Heartbeat(at, crashed=True)


@given(moments, st.text(min_size=1, max_size=600), st.integers(0, 100))
def test_a_heartbeat_fits_a_tag_and_is_read_back_whatever_the_job_is_called(
    at: datetime, job: str, percent: int
) -> None:
    text = format_heartbeat(Heartbeat(at, job, percent))
    assert len(text) <= MAX_VALUE_LENGTH
    read = parse_heartbeat(text)
    assert read is not None
    assert (read.at, read.percent) == (at, percent)
    assert format_heartbeat(read) == text


@given(st.text())
def test_any_text_can_stand_in_a_tag(text: str) -> None:
    parse_condition(text)
    parse_heartbeat(text)
    hold = parse_hold(text)
    assert hold is not None
    assert hold.until is not None or hold.active_at(datetime.now(UTC)), "an unreadable hold holds until removed"


@given(moments, st.timedeltas(timedelta(0), timedelta(days=2)))
def test_a_worker_is_silent_past_the_limit_on_either_side_of_now(now: datetime, apart: timedelta) -> None:
    for at in (now - apart, now + apart):
        assert is_silent(Heartbeat(at), now) == (apart > SILENT_AFTER)
    assert is_silent(None, now)


def test_the_contracts_need_the_standard_library_alone() -> None:
    """They travel in the function's zip, where nothing else may be expected."""
    modules = [f"contracts.{path.stem}" for path in sorted((REPOSITORY / "contracts").glob("*.py"))]
    program = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import " + ", ".join(modules)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
