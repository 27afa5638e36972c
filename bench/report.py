"""Tables of what was measured, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from rich.table import Table

from bench import compare, cost, goals
from bench.contenders import REFERENCE, parse
from bench.cost import InstanceType, Instructions
from bench.results import LONG_ENOUGH_SECONDS, Jobs, Results, Run, Ticks, multiple

_MB = 1e6


@dataclass(frozen=True)
class Sheet:
    """A table without its looks."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def rich(self) -> Table:
        table = Table(title=self.title, title_justify="left", caption=self.note, caption_justify="left", box=None)
        for number, name in enumerate(self.head):
            table.add_column(name, justify="left" if number == 0 else "right")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        align = [":--" if number == 0 else "--:" for number in range(len(self.head))]
        lines = [_row(self.head), _row(align), *(_row(row) for row in self.rows)]
        return "\n".join([f"### {self.title}", "", *lines, *(["", self.note] if self.note else []), ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def sheets(results: Results, types: Sequence[InstanceType]) -> list[Sheet]:
    """All tables there is something to fill with."""
    speech = results.recordings(speech=True)
    found = [_speed(results, name) for name in speech if multiple(name) is None]
    if silent := results.recordings(speech=False):
        found.append(_invented(results, silent))
    if any(multiple(name) for name in speech):
        found.append(_length(results))
    if results.jobs:
        found.append(_jobs(results.jobs))
    if any(run.first_poll_seconds is not None for run in results.runs):
        found.append(_starts(results))
    if factors := real_time_factors(results):
        found.append(_cost(results, factors, types))
    if results.ticks:
        found.append(_ticks(results.ticks))
    if reached := goals.of(results):
        rows = tuple((goal.text, goal.measured, "yes" if goal.met else "no") for goal in reached)
        found.append(Sheet("Goals, by the worker with its default engine", ("", "measured", "met"), rows))
    return found


def markdown(results: Results, types: Sequence[InstanceType]) -> str:
    machine = results.machine
    about = (
        f"{machine.cpu}, {machine.cores} cores, {machine.instructions}; {machine.started:%Y-%m-%d %H:%M} UTC;"
        f" commit {machine.commit}; Python {machine.python}."
    )
    parts = [about, "", *(sheet.markdown() for sheet in sheets(results, types))]
    if results.troubles:
        parts += ["### Not measured", "", *(f"- {trouble}" for trouble in results.troubles), ""]
    return "\n".join(parts)


def _runs(results: Results, recording: str) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.recording == recording:
            found.setdefault(run.contender, []).append(run)
    return found


def _speed(results: Results, recording: str) -> Sheet:
    runs = _runs(results, recording)
    reference = {run.repeat: run.wall_seconds for run in runs.get(REFERENCE, [])}
    rows = []
    for name, mine in sorted(runs.items(), key=lambda item: -median(run.wall_seconds for run in item[1])):
        wall = compare.Spread(
            middle=median(run.wall_seconds for run in mine),
            low=min(run.wall_seconds for run in mine),
            high=max(run.wall_seconds for run in mine),
        )
        times = compare.ratio(reference, {run.repeat: run.wall_seconds for run in mine})
        rows.append(
            (
                label(name),
                str(len(mine)),
                f"{wall.middle:.1f} ±{wall.percent:.0f}%",
                f"{median(run.cpu_seconds for run in mine):.0f}",
                f"{mine[0].audio_seconds / wall.middle:.1f}",
                f"{times.middle:.2f} ({times.low:.2f} to {times.high:.2f})" if times else "-",
                f"{max(run.peak_rss_bytes for run in mine) / _MB:,.0f}",
                _maybe([run.word_error_rate for run in mine], lambda rate: f"{100 * rate:.2f}"),
                _maybe([run.load_seconds for run in mine], lambda seconds: f"{seconds:.2f}"),
                _maybe([run.first_result_seconds for run in mine], lambda seconds: f"{seconds:.1f}"),
            )
        )
    seconds = next(iter(runs.values()))[0].audio_seconds
    return Sheet(
        f"{recording}, {seconds:.0f} s",
        (
            *("", "runs", "wall s", "CPU s", "x real time", f"x {REFERENCE}"),
            *("peak RSS MB", "WER %", "model load s", "first result s"),
        ),
        tuple(rows),
    )


def _invented(results: Results, recordings: Sequence[str]) -> Sheet:
    by_contender: dict[str, dict[str, int]] = {}
    for run in results.runs:
        if run.invented:
            most = by_contender.setdefault(run.contender, {})
            most[run.recording] = max(run.characters, most.get(run.recording, 0))
    rows = [
        (label(name), *(str(most.get(recording, "-")) for recording in recordings))
        for name, most in sorted(by_contender.items())
    ]
    return Sheet("Characters invented where nobody speaks", ("", *recordings), tuple(rows))


def _length(results: Results) -> Sheet:
    multiples: dict[tuple[str, str], dict[float, Run]] = {}
    for run in results.runs:
        times = multiple(run.recording)
        if times is not None:
            base = run.recording.rpartition(" x")[0]
            multiples.setdefault((run.contender, base), {})[times] = run
    rows = []
    for (contender, base), found in sorted(multiples.items()):
        single = found.get(1.0)
        for times, run in sorted(found.items()):
            linear = f"{compare.linearity(single.wall_seconds, run.wall_seconds, times):.2f}" if single else "-"
            rows.append(
                (
                    label(contender),
                    f"{base} x{times:g}",
                    f"{run.audio_seconds / 60:.0f}",
                    f"{run.wall_seconds:.1f}",
                    f"{run.audio_seconds / run.wall_seconds:.1f}",
                    linear,
                    f"{run.peak_rss_bytes / _MB:,.0f}",
                )
            )
    return Sheet(
        "Long recordings",
        ("", "recording", "minutes", "wall s", "x real time", "time, over the multiple", "peak RSS MB"),
        tuple(rows),
        "1 in the last column but one: time is linear in the length.",
    )


def _jobs(jobs: Sequence[Jobs]) -> Sheet:
    rows = [
        (
            label(each.contender),
            f"{len(each.seconds)} x {each.recording}",
            f"{each.resident_bytes[0] / _MB:,.0f}",
            f"{each.resident_bytes[-1] / _MB:,.0f}",
            f"{each.resident_bytes[-1] / each.resident_bytes[0]:.2f}",
            f"{each.seconds[0]:.1f}",
            f"{median(each.seconds[1:]):.1f}" if len(each.seconds) > 1 else "-",
        )
        for each in jobs
    ]
    head = ("", "jobs", "MB after first", "MB after last", "ratio", "first job s", "each further s")
    return Sheet("One worker, many short lessons", head, tuple(rows), "From message to row; worker and child.")


def _starts(results: Results) -> Sheet:
    by_contender: dict[str, list[float]] = {}
    for run in results.runs:
        if run.first_poll_seconds is not None:
            by_contender.setdefault(run.contender, []).append(run.first_poll_seconds)
    rows = [
        (label(name), str(len(times)), f"{median(times):.2f}", f"{min(times):.2f} to {max(times):.2f}")
        for name, times in sorted(by_contender.items())
    ]
    return Sheet("From the worker's start to its first poll", ("", "starts", "s", "from, to"), tuple(rows))


def real_time_factors(results: Results) -> dict[str, float]:
    """Seconds of wall time for each second of audio, by contender, from the longest recording that each had.

    The longest, because what a lesson takes whatever its length weighs least there. What took less than five
    minutes to say tells nothing of a lesson.
    """
    found: dict[str, float] = {}
    for recording in results.recordings(speech=True):
        if multiple(recording) is None:
            for name, mine in _runs(results, recording).items():
                if mine[0].audio_seconds >= LONG_ENOUGH_SECONDS:
                    found[name] = median(run.wall_seconds for run in mine) / mine[0].audio_seconds
    return found


def _cost(results: Results, factors: dict[str, float], types: Sequence[InstanceType]) -> Sheet:
    machine = results.machine
    by_contender: dict[str, dict[Instructions, float]] = {}
    for name, factor in factors.items():
        contender = parse(name)
        held = Instructions(contender.settings.get("isa", machine.instructions))
        by_contender.setdefault(contender.plain_name, {})[held] = factor
    rows = []
    for each in types:
        cells = []
        for measured in by_contender.values():
            known = cost.factor_on(each, measured, machine.cores)
            usd = cost.lesson_usd(known[0], 0, each.usd_per_hour) if known else None
            mark = "" if known is None or known[1] is each.instructions else "*"
            cells.append("-" if usd is None else f"{usd:.5f}{mark}")
        rows.append((each.name, f"{each.usd_per_hour:.4f}", str(each.vcpus), str(each.instructions), *cells))
    note = (
        f"As if a type with {machine.cores} vCPUs were as fast as this machine ({machine.instructions}) or as this"
        f" machine held to AVX2. * measured with fewer instructions than it has. - nothing measured applies."
        " Prices: ops/prices.toml, to be compared with the current list."
    )
    return Sheet(
        "US dollars for a 45-minute lesson",
        ("", "$/h", "vCPUs", "processor", *(label(name) for name in by_contender)),
        tuple(rows),
        note,
    )


def _ticks(ticks: Ticks) -> Sheet:
    rows = [
        ("cold invocation, ms", f"{1000 * median(ticks.cold_seconds):.0f}", _range_ms(ticks.cold_seconds)),
        ("warm invocation, ms", f"{1000 * median(ticks.warm_seconds):.0f}", _range_ms(ticks.warm_seconds)),
        ("archive, kB", f"{ticks.archive_bytes / 1000:.1f}", ""),
        *((f"AWS calls, {state}", str(len(calls)), ", ".join(calls)) for state, calls in ticks.calls.items()),
    ]
    note = "In the emulator: a process starts and imports boto3 as on Lambda, on this machine's cores."
    return Sheet("The autoscaler's function", ("", "", ""), tuple(rows), note)


def _range_ms(seconds: Sequence[float]) -> str:
    return f"{len(seconds)} runs, {1000 * min(seconds):.0f} to {1000 * max(seconds):.0f}"


def label(name: str) -> str:
    return f"{name} (default)" if parse(name).is_default else name


def _maybe(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    known = [value for value in values if value is not None]
    return show(median(known)) if known else "-"
