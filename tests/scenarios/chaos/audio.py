"""The corpus of odd audio: each row's file through the real worker and engine, compared with its row."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.table import Table

from testbed.cloud import Say
from tests.scenarios.chaos.audio_plan import MAX_BYTES, MAX_SECONDS, Case, job_id, judge, key_of, message_of
from tests.scenarios.chaos.stage import Stage

_DEADLINE_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    case: Case
    size: int
    problem: str | None


@dataclass(frozen=True)
class Report:
    results: list[Result]
    problems: list[str]
    seconds: float

    def table(self) -> Table:
        table = Table("audio", "bytes", "planned", "so", box=None)
        for result in self.results:
            table.add_row(
                result.case.what, f"{result.size:,}", str(result.case.end), "no" if result.problem else "yes"
            )
        right = sum(result.problem is None for result in self.results)
        table.add_section()
        table.add_row(f"{len(self.results)} files", "", f"{self.seconds:.0f} s", f"{right}")
        return table


def run(stage: Stage, cases: list[Case], say: Say) -> Report:
    started = time.monotonic()
    say(f"audio: {len(cases)} files")
    sizes = []
    for number, case in enumerate(cases):
        content = case.make()
        sizes.append(len(content))
        stage.put(key_of(number, case), content)
    say(f"audio: made in {time.monotonic() - started:.0f} s")
    stage.announce({job_id(number): key_of(number, case) for number, case in enumerate(cases)})
    settings = {
        "MAX_AUDIO_SECONDS": str(MAX_SECONDS),
        "MAX_FILE_BYTES": str(MAX_BYTES),
        "MAX_ATTEMPTS": "2",
        "WHISPER_THREADS": "0",  # it is alone
    }
    worker = stage.worker("audio", settings)
    worker.start()
    try:
        stage.send([message_of(number, case) for number, case in enumerate(cases)])
        ended = stage.watch(worker, started + _DEADLINE_SECONDS, say)
        backlog = stage.queue().backlog
    finally:
        worker.leave(10)
        stage.take_dead_letters()
    found, texts = stage.rows(), dict(stage.transcripts())
    results = [
        Result(case, size, judge(case, found.get(job_id(number)), texts.get(job_id(number))))
        for number, (case, size) in enumerate(zip(cases, sizes, strict=True))
    ]
    problems = [f"{result.case.what}: {result.problem}" for result in results if result.problem]
    if ended is not None:
        problems.append(f"the worker did not survive: {ended}")
    elif backlog:
        problems.append(f"the queue still holds {backlog} messages")
    return Report(results, problems, time.monotonic() - started)
