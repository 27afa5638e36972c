"""What the worker with its default engine is to reach, and whether it did; the only place that judges figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from bench import compare, cost
from bench.contenders import DEFAULT_ENGINE, REFERENCE, Family
from bench.results import LONG_ENOUGH_SECONDS, Results, Run, multiple

_TIMES_REFERENCE = 4.0
_PEAK_BYTES = 1.5e9
_GROWTH = 1.05
_FIRST_POLL_SECONDS = 2.0
_LOAD_SECONDS = 1.0
_SHORT_AUDIO, _SHORT_SECONDS = 15.0, 3.0
_USD, _USD_PER_HOUR = 0.0015, 0.0464
_LINEAR = 1.1
_WORKER = f"{Family.WORKER}/{DEFAULT_ENGINE}"


@dataclass(frozen=True)
class Goal:
    text: str
    measured: str
    met: bool


def of(results: Results) -> list[Goal]:
    """Those there are measurements for, in the order of their importance."""
    speech = [run for run in results.runs if not run.invented and multiple(run.recording) is None]
    return [
        *_against_reference(speech),
        *_invented(results),
        *_memory(results, speech),
        *_quickness(results, speech),
        *_cost(speech),
        *_length(results),
    ]


def _by(runs: Sequence[Run], contender: str) -> dict[str, list[Run]]:
    """Of one contender, by recording, the shortest first."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.audio_seconds):
        if run.contender == contender:
            found.setdefault(run.recording, []).append(run)
    return found


def _against_reference(speech: Sequence[Run]) -> Iterator[Goal]:
    mine, theirs = _by(speech, _WORKER), _by(speech, REFERENCE)
    for recording in mine:
        if recording not in theirs or mine[recording][0].audio_seconds < LONG_ENOUGH_SECONDS:
            continue
        times = compare.ratio(
            {run.repeat: run.wall_seconds for run in theirs[recording]},
            {run.repeat: run.wall_seconds for run in mine[recording]},
        )
        if times is not None:
            text = f"{recording}: {_TIMES_REFERENCE:g} times {REFERENCE}'s throughput, from message to row"
            yield Goal(text, f"{times.middle:.2f}", times.middle >= _TIMES_REFERENCE)
        rates = [
            [run.word_error_rate for run in runs[recording] if run.word_error_rate is not None]
            for runs in (mine, theirs)
        ]
        if all(rates):
            ours, reference = (100 * median(each) for each in rates)
            text = f"{recording}: word error rate not above {REFERENCE}'s"
            yield Goal(text, f"{ours:.2f} against {reference:.2f} %", ours <= reference)


def _invented(results: Results) -> Iterator[Goal]:
    silent = [run for run in results.runs if run.invented and run.contender == _WORKER]
    if silent:
        characters = sum(run.characters for run in silent)
        text = f"nothing invented where nobody speaks ({len(silent)} sounds)"
        yield Goal(text, f"{characters} characters", characters == 0)


def _memory(results: Results, speech: Sequence[Run]) -> Iterator[Goal]:
    for recording, runs in list(_by(speech, _WORKER).items())[-1:]:
        peak = max(run.peak_rss_bytes for run in runs)
        text = f"{recording}: peak RSS of worker and child under {_PEAK_BYTES / 1e6:,.0f} MB"
        yield Goal(text, f"{peak / 1e6:,.0f} MB", peak < _PEAK_BYTES)
    for jobs in results.jobs:
        if jobs.contender == _WORKER:
            growth = jobs.resident_bytes[-1] / jobs.resident_bytes[0]
            text = f"memory after {len(jobs.seconds)} jobs as after the first ({_GROWTH:g} times, for noise)"
            yield Goal(text, f"{growth:.2f} times", growth <= _GROWTH)


def _quickness(results: Results, speech: Sequence[Run]) -> Iterator[Goal]:
    runs = [run for run in results.runs if run.contender == _WORKER]
    polls = [run.first_poll_seconds for run in runs if run.first_poll_seconds is not None]
    if polls:
        text = f"from the worker's start to its first poll under {_FIRST_POLL_SECONDS:g} s"
        yield Goal(text, f"{median(polls):.2f} s", median(polls) < _FIRST_POLL_SECONDS)
    loads = [run.load_seconds for run in speech if run.contender == _WORKER and run.load_seconds is not None]
    if loads:
        text = f"model load under {_LOAD_SECONDS:g} s"
        yield Goal(text, f"{median(loads):.2f} s", median(loads) < _LOAD_SECONDS)
    for recording, mine in _by(speech, _WORKER).items():
        if mine[0].audio_seconds <= _SHORT_AUDIO:
            seconds = median(run.wall_seconds for run in mine)
            text = f"{recording}: under {_SHORT_SECONDS:g} s, the worker's first lesson"
            yield Goal(text, f"{seconds:.1f} s", seconds < _SHORT_SECONDS)
    for jobs in results.jobs:
        if jobs.contender == _WORKER and len(jobs.seconds) > 1:
            seconds = median(jobs.seconds[1:])
            text = f"{jobs.recording}: under {_SHORT_SECONDS:g} s, a later lesson"
            yield Goal(text, f"{seconds:.1f} s", seconds < _SHORT_SECONDS)


def _cost(speech: Sequence[Run]) -> Iterator[Goal]:
    for recording, runs in list(_by(speech, _WORKER).items())[-1:]:
        if runs[0].audio_seconds >= LONG_ENOUGH_SECONDS:
            factor = median(run.wall_seconds for run in runs) / runs[0].audio_seconds
            usd = cost.lesson_usd(factor, 0, _USD_PER_HOUR)
            text = f"45 minutes at {recording}'s speed, for ${_USD_PER_HOUR} an hour, under ${_USD}"
            yield Goal(text, f"${usd:.5f}", usd < _USD)


def _length(results: Results) -> Iterator[Goal]:
    mine = [run for run in results.runs if run.contender == _WORKER and multiple(run.recording) is not None]
    by_multiple = {multiple(run.recording) or 0.0: run for run in mine}
    if 1.0 not in by_multiple or len(by_multiple) == 1:
        return
    single, (times, longest) = by_multiple[1.0], max(by_multiple.items())
    linear = compare.linearity(single.wall_seconds, longest.wall_seconds, times)
    minutes = longest.audio_seconds / 60
    yield Goal(
        f"{minutes:.0f} minutes: time linear in the length ({_LINEAR:g} times, for noise)",
        f"{linear:.2f} times",
        linear <= _LINEAR,
    )
    text = f"{minutes:.0f} minutes: peak RSS under {_PEAK_BYTES / 1e6:,.0f} MB"
    yield Goal(text, f"{longest.peak_rss_bytes / 1e6:,.0f} MB", longest.peak_rss_bytes < _PEAK_BYTES)
