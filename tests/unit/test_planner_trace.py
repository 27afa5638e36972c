"""The uploads a plan starts from: made up, or read from a file."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.errors import OpsError
from planner.trace import DAY, Schools, Trace, generate, read_csv


def written(folder: Path, text: str) -> Path:
    path = folder / "uploads.csv"
    path.write_text(text)
    return path


def on_day(trace: Trace, day: int) -> int:
    return int(((trace.at >= day * DAY) & (trace.at < (day + 1) * DAY)).sum())


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(1, 9), st.integers(0, 5))
def test_a_made_up_trace_is_in_order_and_within_its_days(schools: int, lessons: int, days: int, seed: int) -> None:
    trace = generate(Schools(schools, lessons, days), seed)
    assert np.all(np.diff(trace.at) >= 0)
    assert np.all((trace.at >= 0) & (trace.at < days * DAY))
    assert np.all((trace.seconds >= 600) & (trace.seconds <= 7200))
    assert on_day(trace, 0) == lessons


def test_the_same_seed_makes_the_same_trace_and_another_another() -> None:
    first, again, other = (generate(Schools(5, 40), seed) for seed in (1, 1, 2))
    assert np.array_equal(first.at, again.at)
    assert np.array_equal(first.seconds, again.seconds)
    assert not np.array_equal(first.at, other.at)


def test_weekends_and_holidays_are_quiet() -> None:
    trace = generate(Schools(10, 100, days=7, holidays=frozenset({3})), 1)
    assert [on_day(trace, day) for day in range(7)] == [100, 100, 2, 100, 100, 2, 2]


def test_most_lessons_come_soon_after_a_bell() -> None:
    trace = generate(Schools(1, 1000, bells=("10:00",), evening_share=0.0), 1)
    offset = trace.at.min() - 10 * 3600  # one school rings its own quarter of an hour
    assert -900 <= offset < 900 + 60
    assert np.median(trace.at) - trace.at.min() < 10 * 60


def test_thinning_keeps_the_shape_of_the_day() -> None:
    trace = generate(Schools(100, 5000), 1)
    thin = trace.thinned(10)
    assert len(thin) == 500
    assert np.allclose(np.percentile(thin.at, [10, 50, 90]), np.percentile(trace.at, [10, 50, 90]), atol=600)


def test_a_file_may_have_times_of_day(tmp_path: Path) -> None:
    trace = read_csv(written(tmp_path, "time,duration\n09:30,45:00\n08:45:30,2700.5\n\n"))
    assert trace.at.tolist() == [8 * 3600 + 45 * 60 + 30, 9.5 * 3600]
    assert trace.seconds.tolist() == [2700.5, 2700]
    assert trace.days == 1


def test_a_file_may_have_dates(tmp_path: Path) -> None:
    text = "time,duration\n2026-11-24T00:10,1:00:00\n2026-11-23T23:50,600\n"
    trace = read_csv(written(tmp_path, text))
    assert trace.at.tolist() == [23 * 3600 + 50 * 60, DAY + 600]
    assert trace.seconds.tolist() == [600, 3600]
    assert trace.days == 2


def test_zones_are_honoured(tmp_path: Path) -> None:
    text = "time,duration\n2026-11-23T08:00+00:00,60\n2026-11-23T10:30+02:00,60\n"
    assert read_csv(written(tmp_path, text)).at.tolist() == [8 * 3600, 8.5 * 3600]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", ":1: the first line must be `time,duration`"),
        ("when,length\n08:00,60\n", ":1: the first line"),
        ("time,duration\n", "has no lessons"),
        ("time,duration\n08:00,60\n25:00,60\n", ":3: '25:00' is neither"),
        ("time,duration\nsoon,60\n", ":2: 'soon' is neither"),
        ("time,duration\n08:00\n", ":2: 1 columns instead of 2"),
        ("time,duration\n08:00,60,7\n", ":2: 3 columns"),
        ("time,duration\n08:00,long\n", ":2: 'long' is not a duration"),
        ("time,duration\n08:00,0\n", ":2: a duration of '0'"),
        ("time,duration\n08:00,-5\n", ":2: a duration of '-5'"),
        ("time,duration\n08:00,nan\n", ":2: a duration of 'nan'"),
        ("time,duration\n08:00,90000\n", ":2: a duration of '90000'"),
        ("time,duration\n08:00,1:75\n", ":2: '1:75' is not a duration"),
        ("time,duration\n08:00,60\n2026-11-23T08:00,60\n", ":3: times of day and dates are mixed"),
        ("time,duration\n2026-11-23T08:00,60\n2026-11-23T08:00Z,60\n", ":3: times with and without a zone"),
        ("time,duration\n2026-11-01T08:00,60\n2026-12-24T08:00,60\n", "covers 54 days"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(OpsError) as refused:
        read_csv(written(tmp_path, text))
    assert "uploads.csv" in str(refused.value)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match=r"missing\.csv cannot be read"):
        read_csv(tmp_path / "missing.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(OpsError, match=r"image\.csv cannot be read"):
        read_csv(tmp_path / "image.csv")


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_trace_or_a_refusal(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.csv"
        path.write_text(f"time,duration\n{text}", newline="")
        try:
            trace = read_csv(path)
        except OpsError:
            return
    assert len(trace) > 0
    assert np.all(trace.seconds > 0)
