"""Measure the engines side by side: `make bench`. Every run is saved, so a run that was cut off can go on."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import autoscaler, cost, measured, plot, recordings, report, schedule, speed, worker
from bench.contenders import REFERENCE, Contender, Family, named, parse, usual
from bench.recordings import Recording
from bench.results import Results, Run, Store, this_machine
from ops.cli import screen
from ops.cli.errors import run as run_app
from ops.errors import OpsError
from ops.settings import REPOSITORY, OpsSettings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__)

_MULTIPLES = (1.0, 2.0, 4.0)
_FILE_COLUMNS = 160
_FOUR_HOURS = 4 * 3600.0
_JOBS, _JOBS_QUICK = 50, 3
_INVOCATIONS, _INVOCATIONS_QUICK = 10, 2
_QUICK = f"{Family.OURS},{Family.FASTER_WHISPER}"
_KEPT = REPOSITORY / ".local" / "bench"


class Part(StrEnum):
    SPEED = "speed"
    SILENCE = "silence"
    LENGTH = "length"
    MEMORY = "memory"
    AUTOSCALER = "autoscaler"


class OutOfTime(Exception):
    """The next run would not end within the time given."""


@dataclass
class Bench:
    """What the parts share: where results go, and what is brought up once."""

    store: Store
    results: Results
    models_dir: Path
    stack: ExitStack
    deadline: float
    _site: worker.Site | None = None

    @property
    def site(self) -> worker.Site:
        if self._site is None:
            self._site = self.stack.enter_context(worker.open_site(self.models_dir, screen.say))
        return self._site

    def once(self, contender: Contender, recording: Recording, repeat: int, told: str) -> None:
        """Measure and save, unless it is there from before. What fails is noted, and the others go on."""
        if self.results.has(recording.name, contender.name, repeat):
            return
        expected = self._guess(contender, recording)
        self.make_time(expected)
        try:
            with screen.console.status(f"{told} {recording.name}, {contender.name}: about {expected:.0f} s"):
                run = self._measure(contender, recording, repeat)
        except OpsError as error:
            self.trouble(f"{recording.name}, {contender.name}: {error}")
            return
        self.results.runs.append(run)
        self.store.save(self.results)
        screen.say(f"{told} {recording.name:<16} {contender.name:<28} {_told(run)}")

    def _measure(self, contender: Contender, recording: Recording, repeat: int) -> Run:
        model = speed.prepare(contender, self.models_dir, screen.say)
        if contender.family is Family.WORKER:
            return worker.measure(self.site, contender, recording, repeat)
        return speed.measure(contender, recording, repeat, model)

    def trouble(self, text: str) -> None:
        screen.say(f"! {text}")
        if text not in self.results.troubles:
            self.results.troubles.append(text)
            self.store.save(self.results)

    def make_time(self, seconds: float) -> None:
        if time.monotonic() + seconds > self.deadline:
            raise OutOfTime

    def _guess(self, contender: Contender, recording: Recording) -> float:
        """Seconds a run may take: as it did before on this recording, else as an untuned engine would."""
        mine = [r for r in self.results.runs if r.contender == contender.name and r.recording == recording.name]
        return 15 + (mine[-1].wall_seconds if mine else recording.seconds / 6)


def _told(run: Run) -> str:
    accuracy = "" if run.word_error_rate is None else f", WER {100 * run.word_error_rate:.2f} %"
    return (
        f"{run.wall_seconds:7.1f} s, {run.audio_seconds / run.wall_seconds:5.1f} x real time,"
        f" {run.peak_rss_bytes / 1e6:,.0f} MB{accuracy}"
    )


@app.command()
def bench(
    audio: Annotated[
        Path | None, typer.Option(help="folder of recordings with their texts, or one file; default: BENCH_AUDIO")
    ] = None,
    engines: Annotated[
        str,
        typer.Option(
            help="with commas: openai-whisper, faster-whisper, whisper.cpp, ours[/ENGINE], worker[/ENGINE]"
        ),
    ] = "",
    only: Annotated[str, typer.Option(help="comma list of recordings' names; default: all")] = "",
    part: Annotated[list[Part] | None, typer.Option(help="only these; default: all")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, max=100, help="default: 3, and 2 of recordings over 20 minutes")
    ] = None,
    seed: Annotated[int, typer.Option(help="decides the order of the runs")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="the sample, two engines, one run each")] = False,
    four_hours: Annotated[
        bool, typer.Option("--four-hours", help="measure a recording of four hours too")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on with the last measurement")] = False,
    budget: Annotated[
        float, typer.Option(help="minutes; no run is begun that would not end in them", min=0.1)
    ] = 24 * 60.0,
    keep_in: Annotated[Path, typer.Option(help="where each measurement gets a folder of its own")] = _KEPT,
    record: Annotated[bool, typer.Option("--record", help="write bench/measured.toml from the results")] = False,
) -> None:
    """Run the parts that were asked for, show the tables, and keep them with a plot."""
    chosen = named(engines or (_QUICK if quick else "")) or usual()
    settings = OpsSettings()
    place = audio or (recordings.SAMPLE if quick else settings.bench_audio)
    found = recordings.chosen(recordings.find(place), [name for name in only.split(",") if name])
    now = datetime.now(UTC)
    store = Store.latest(keep_in) if resume else Store.new(keep_in, now)
    results = store.load() if resume else Results(machine=this_machine(now))
    # In this order, whatever was asked for: once there is an autoscaler, it sends an appliance after uploads.
    parts = [each for each in Part if (each in part if part else not quick or each is Part.SPEED)]
    complete = True
    with ExitStack() as stack:
        shared = Bench(store, results, settings.models_dir, stack, time.monotonic() + 60 * budget)
        try:
            for each in parts:
                _measure(shared, each, chosen, found, repeats or (1 if quick else None), seed, quick, four_hours)
        except OutOfTime:
            complete = False
    _finish(store, results)
    if record:
        measured.write(results, "make bench", measured.appliance_text())
        screen.say(f"{measured.FILE.relative_to(REPOSITORY)} holds these figures now")
    if not complete:
        screen.say("not complete: the time given is used up; `make bench RESUME=1` goes on")
    if results.is_empty:
        raise OpsError(f"nothing was measured: {'; '.join(results.troubles) or 'no time for a single run'}")


def _measure(
    shared: Bench,
    part: Part,
    contenders: Sequence[Contender],
    found: Sequence[Recording],
    repeats: int | None,
    seed: int,
    quick: bool,
    four_hours: bool,
) -> None:
    speech = [recording for recording in found if recording.speech]
    workers = [c for c in contenders if c.family is Family.WORKER]
    match part:
        case Part.SPEED:
            for recording in speech:
                often = schedule.repeats_for(recording.seconds, repeats)
                order = list(schedule.interleaved(contenders, often, f"{seed}:{recording.name}"))
                for number, (repeat, contender) in enumerate(order, 1):
                    shared.once(contender, recording, repeat, f"speed {number:2d}/{len(order)}")
        case Part.SILENCE:
            silent = [*(r for r in found if not r.speech), *recordings.silences(shared.store.folder)]
            for recording in silent:
                for repeat, contender in schedule.interleaved(contenders, 1, f"{seed}:{recording.name}"):
                    shared.once(contender, recording, repeat, "silence")
        case Part.LENGTH:
            _measure_length(shared, workers, speech, quick, four_hours)
        case Part.MEMORY:
            for contender in workers:
                _measure_jobs(shared, contender, speech, _JOBS_QUICK if quick else _JOBS)
        case Part.AUTOSCALER:
            if shared.results.ticks is None:
                shared.make_time(60)
                often = _INVOCATIONS_QUICK if quick else _INVOCATIONS
                shared.results.ticks = autoscaler.measure(shared.site, often, screen.say)
                shared.store.save(shared.results)


def _measure_length(
    shared: Bench, workers: Sequence[Contender], speech: Sequence[Recording], quick: bool, four_hours: bool
) -> None:
    """One recording in several lengths: about eleven minutes, so that four times it is a lesson."""
    if not speech:
        return
    base = speech[0] if quick else min(speech, key=lambda recording: abs(recording.seconds - 11 * 60))
    multiples = [*_MULTIPLES, *([_FOUR_HOURS / base.seconds] if four_hours else [])]
    for times in multiples:
        recording = recordings.repeated(base, shared.store.folder, round(times, 3))
        for contender in workers:
            shared.once(contender, recording, 0, "length")


def _measure_jobs(shared: Bench, contender: Contender, speech: Sequence[Recording], count: int) -> None:
    if not speech or any(each.contender == contender.name for each in shared.results.jobs):
        return
    shortest = speech[0]
    shared.make_time(count * (2 + shortest.seconds / 6))
    speed.prepare(contender, shared.models_dir, screen.say)
    try:
        jobs = worker.measure_jobs(shared.site, contender, shortest, count, screen.say)
    except OpsError as error:
        shared.trouble(f"{count} jobs, {contender.name}: {error}")
        return
    shared.results.jobs.append(jobs)
    shared.store.save(shared.results)


def _finish(store: Store, results: Results) -> None:
    if results.is_empty:
        return
    types = cost.instance_types()
    wide = screen.console if screen.console.is_terminal else Console(width=_FILE_COLUMNS, highlight=False)
    for sheet in report.sheets(results, types):
        wide.print()
        wide.print(sheet.rich())
    for trouble in results.troubles:
        screen.say(f"! not measured: {trouble}")
    if REFERENCE not in {parse(run.contender).family for run in results.runs}:
        screen.say(f"no ratios: {REFERENCE} was not among the engines")
    (store.folder / "report.md").write_text(report.markdown(results, types))
    drawn = ", plot.png" if plot.draw(results, store.folder / "plot.png") else ""
    wide.print()
    screen.say(f"kept in {_shown(store.folder)}: report.md, results.json{drawn}")


def _shown(folder: Path) -> Path:
    return folder.relative_to(REPOSITORY) if folder.is_relative_to(REPOSITORY) else folder


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then, too
    sys.exit(run_app(app))
