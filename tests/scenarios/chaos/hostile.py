"""Hostile messages: puts them on the real queue, valid jobs between them, before one real worker."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from rich.table import Table

from contracts.jobs import JobStatus
from testbed.cloud import Say
from testbed.media import silence
from tests.scenarios.chaos.hostile_plan import SPEECH_KEY, Kind, Outcome, Plan, Size, judge, make_plan, start_of
from tests.scenarios.chaos.media import cut_sample
from tests.scenarios.chaos.stage import Stage
from tests.scenarios.chaos.storm_plan import SENTENCES


@dataclass(frozen=True)
class Report:
    plan: Plan
    outcome: Outcome
    problems: list[str]
    seconds: float

    def table(self) -> Table:
        table = Table("hostile messages", "sent", "dead-lettered", box=None)
        kinds = {start_of(message.body): message.kind for message in self.plan.hostile}
        sent = Counter(message.kind for message in self.plan.hostile)
        dead = Counter(kinds.get(start_of(dead_letter.body)) for dead_letter in self.outcome.dead_letters)
        for kind in Kind:
            table.add_row(kind, str(sent[kind]), str(dead[kind]) if kind is not Kind.TEST_EVENTS else "dropped")
        valid = [self.outcome.rows[job.id] for job in self.plan.valid if job.id in self.outcome.rows]
        done = sum(row.status is JobStatus.COMPLETED for row in valid)
        failed = sum(row.status is JobStatus.FAILED for row in self.outcome.rows.values()) - sum(
            row.status is JobStatus.FAILED for row in valid
        )
        table.add_section()
        table.add_row("all of them", str(len(self.plan.hostile)), str(len(self.outcome.dead_letters)))
        table.add_row("jobs they made, each failed with a reason", "", str(failed))
        table.add_row("valid jobs between them, completed", str(len(self.plan.valid)), str(done))
        table.add_row("the worker", "", "survived" if self.outcome.worker_ended is None else "died")
        table.add_row("wall time", "", f"{self.seconds:.0f} s")
        return table


def run(stage: Stage, seed: int, size: Size, say: Say) -> Report:
    started = time.monotonic()
    plan = make_plan(seed, size)
    say(f"hostile: {len(plan.hostile)} messages, {len(plan.valid)} valid jobs between them, seed {seed}")
    before = set(stage.rows())
    quiet = silence(1)
    spoken = {sentence.text: sentence for sentence in SENTENCES}
    for job in plan.valid:
        stage.put(job.key, cut_sample(spoken[job.text]) if job.text else quiet)
    stage.put(SPEECH_KEY, cut_sample(SENTENCES[0]))
    stage.announce({job.id: job.key for job in plan.valid})
    worker = stage.worker("hostile", {"MAX_ATTEMPTS": "3"})
    worker.start()
    try:
        stage.send([message.body for message in plan.messages])
        ended = stage.watch(worker, started + size.deadline, say)
    finally:
        worker.leave(10)
    rows = {row.id: row for row in stage.rows().values() if row.id not in before}
    outcome = Outcome(
        rows=rows,
        transcripts=[found for found in stage.transcripts() if found[0] in rows],
        dead_letters=stage.take_dead_letters(),
        queue=stage.queue(),
        worker_ended=ended,
    )
    return Report(plan, outcome, judge(plan, outcome), time.monotonic() - started)
