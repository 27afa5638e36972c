"""When lessons are uploaded and how long they are: read from a file, or generated from schools and bell times."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ops.errors import OpsError

DAY = 86_400.0
SCHOOL_DAYS = 5
LONGEST_DAYS = 31
_BELLS = ("08:45", "09:35", "10:35", "11:25", "12:15", "14:00", "14:50")
_HEADER = ["time", "duration"]


@dataclass(frozen=True)
class Trace:
    """Uploads in order of time."""

    at: NDArray[np.float64]
    """Seconds since the first day's midnight, ascending; one for each lesson."""
    seconds: NDArray[np.float64]
    """Length of the audio, above 0; one for each lesson."""
    days: int
    """How many days the trace covers, quiet ones included."""

    def __len__(self) -> int:
        return len(self.at)

    def thinned(self, keep_one_of: int) -> Trace:
        """Every n-th lesson, each standing for n."""
        return Trace(self.at[::keep_one_of], self.seconds[::keep_one_of], self.days)


@dataclass(frozen=True)
class Schools:
    """What the generator needs to know of a school day. All times are in one zone."""

    schools: int
    lessons_a_day: int
    """Of all schools together."""
    days: int = 1
    """From a Monday on."""
    holidays: frozenset[int] = frozenset()
    """Days without school, 1 for the first Monday."""
    bells: tuple[str, ...] = _BELLS
    """When the day's lessons end, HH:MM; a school may ring up to a quarter of an hour earlier or later."""
    mean_minutes: float = 45.0
    spread_minutes: float = 6.0
    """Standard deviation of a recording's length; none is shorter than 10 minutes or longer than two hours."""
    upload_delay_minutes: float = 6.0
    """Mean time from the bell to the upload; most come at once, a few late."""
    evening_share: float = 0.2
    """Of teachers who upload from home, between 16 and 21 o'clock."""
    quiet_share: float = 0.02
    """Lessons of a weekend day or holiday, as a share of a school day's."""


def generate(schools: Schools, seed: int) -> Trace:
    """The same schools and seed give the same trace."""
    random = np.random.default_rng([seed, schools.schools])
    offset = 300.0 * random.integers(-3, 4, size=schools.schools)  # each school's bells, in steps of 5 minutes
    bells = np.array([_seconds_of_day(bell) for bell in schools.bells])
    at, seconds = [], []
    for day in range(schools.days):
        quiet = day % 7 >= SCHOOL_DAYS or day + 1 in schools.holidays
        count = round(schools.lessons_a_day * (schools.quiet_share if quiet else 1.0))
        school = random.integers(0, schools.schools, size=count)
        after_bell = bells[random.integers(0, len(bells), size=count)] + offset[school]
        after_bell += np.minimum(3600.0, random.exponential(60 * schools.upload_delay_minutes, size=count))
        evening = random.uniform(16 * 3600, 21 * 3600, size=count)
        from_home = random.random(size=count) < (1.0 if quiet else schools.evening_share)
        minutes = random.normal(schools.mean_minutes, schools.spread_minutes, size=count)
        at.append(day * DAY + np.where(from_home, evening, after_bell))
        seconds.append(60 * np.clip(minutes, 10.0, 120.0))
    return _sorted(np.concatenate(at), np.concatenate(seconds), schools.days)


def read_csv(path: Path) -> Trace:
    """A file with the columns `time` and `duration`, one line a lesson, in any order.

    `time` is a time of day (08:45, 08:45:30) or a date and time (2026-11-23T08:45), all of one kind; `duration` is
    in seconds (2700, 2700.5) or as [hours:]minutes:seconds (45:00). Raises OpsError naming file and line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OpsError(f"{path} cannot be read: {error}") from error
    if not rows or [name.strip() for name in rows[0]] != _HEADER:
        raise OpsError(f"{path}:1: the first line must be `{','.join(_HEADER)}`")
    moments: list[float | datetime] = []
    seconds: list[float] = []
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        try:
            moment, duration = _row(row)
            if moments and type(moment) is not type(moments[0]):
                raise ValueError("times of day and dates are mixed")
            if isinstance(moment, datetime) and moments and not _same_zone(moment, moments[0]):
                raise ValueError("times with and without a zone are mixed")
        except ValueError as error:
            raise OpsError(f"{path}:{number}: {error}") from error
        moments.append(moment)
        seconds.append(duration)
    if not moments:
        raise OpsError(f"{path} has no lessons")
    at = _since_midnight(moments)
    days = int(at.max() // DAY) + 1
    if days > LONGEST_DAYS:
        raise OpsError(f"{path} covers {days} days; {LONGEST_DAYS} are the most")
    return _sorted(at, np.array(seconds), days)


def _row(row: list[str]) -> tuple[float | datetime, float]:
    if len(row) != len(_HEADER):
        raise ValueError(f"{len(row)} columns instead of {len(_HEADER)}")
    moment, duration = (cell.strip() for cell in row)
    seconds = _duration(duration)
    if not 0 < seconds <= DAY:
        raise ValueError(f"a duration of {duration!r} is not above 0 and at most a day")
    try:
        return (
            _seconds_of_day(moment) if len(moment) <= len("08:45:30") else datetime.fromisoformat(moment)
        ), seconds
    except ValueError:
        raise ValueError(f"{moment!r} is neither a time of day nor a date and time") from None


def _duration(text: str) -> float:
    parts = text.split(":")
    try:
        numbers = [*map(int, parts[:-1]), float(parts[-1])]
    except ValueError:
        raise ValueError(f"{text!r} is not a duration: seconds, or minutes:seconds") from None
    if len(parts) > 3 or any(not 0 <= number < 60 for number in numbers[1:]):
        raise ValueError(f"{text!r} is not a duration: seconds, or minutes:seconds")
    return float(sum(number * 60**power for power, number in enumerate(reversed(numbers))))


def _seconds_of_day(text: str) -> float:
    moment = time.fromisoformat(text)
    return moment.hour * 3600.0 + moment.minute * 60 + moment.second


def _same_zone(moment: datetime, first: float | datetime) -> bool:
    return isinstance(first, datetime) and (moment.tzinfo is None) == (first.tzinfo is None)


def _since_midnight(moments: list[float | datetime]) -> NDArray[np.float64]:
    dates = [moment for moment in moments if isinstance(moment, datetime)]
    if not dates:
        return np.array(moments, dtype=np.float64)
    midnight = min(dates).replace(hour=0, minute=0, second=0, microsecond=0)
    return np.array([(moment - midnight).total_seconds() for moment in dates])


def _sorted(at: NDArray[np.float64], seconds: NDArray[np.float64], days: int) -> Trace:
    order = np.argsort(at, kind="stable")
    return Trace(at[order], seconds[order], days)
