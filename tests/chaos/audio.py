"""The corpus of odd audio: each row's file through the real worker and engine, compared with its row."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.table import Table

from tests.chaos.audio_plan import MAX_BYTES, MAX_SECONDS, Case, job_id, judge, key_of, message_of
from tests.chaos.stage import Row, Say, Stage

_SAY_SECONDS = 10.0
_DEADLINE_SECONDS = 300.0


@dataclass(frozen=True)
class Result:
    case: Case
    size: int
    row: Row | None
    problem: str | None


@dataclass(frozen=True)
class Report:
    results: list[Result]
    seconds: float
    left: str | None

    @property
    def problems(self) -> list[str]:
        found = [f"{result.case.what}: {result.problem}" for result in self.results if result.problem]
        return [*found, self.left] if self.left else found

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
    worker = stage.worker("audio", "whisper_processor", stage.cloud.endpoint, settings)
    worker.start()
    try:
        stage.send([message_of(number, case) for number, case in enumerate(cases)])
        said = time.monotonic()
        while worker.ended() is None and time.monotonic() < started + _DEADLINE_SECONDS:
            backlog = stage.queue().backlog
            if not backlog:
                break
            if time.monotonic() - said >= _SAY_SECONDS:
                said = time.monotonic()
                say(f"audio: {backlog} files to go")
            time.sleep(0.5)
        left = _left(stage, worker.ended(), worker.last_words())
    finally:
        worker.leave(10)
        stage.take_dead_letters()
    found, texts = stage.rows(), dict(stage.transcripts())
    results = [
        Result(case, size, row := found.get(job), judge(case, row, texts.get(job)))
        for (number, case), size in zip(enumerate(cases), sizes, strict=True)
        for job in [job_id(number)]
    ]
    return Report(results, time.monotonic() - started, left)


def _left(stage: Stage, code: int | None, words: str) -> str | None:
    if code is not None:
        return f"the worker did not survive: exit code {code}: {words}"
    backlog = stage.queue().backlog
    return f"the queue still holds {backlog} messages" if backlog else None
