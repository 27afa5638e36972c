"""The plans are the same for the same seed, and the verdicts find what is wrong: a proof must be able to fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.jobs import JobStatus
from ops.observability.queues import Queue
from tests.scenarios.chaos import audio_plan, hostile_plan, storm_plan
from tests.scenarios.chaos.faults import WEATHER, count_kinds
from tests.scenarios.chaos.planted import Act, Order, plant, read_order, words_of
from tests.scenarios.chaos.stage import DeadLetter, Row
from tests.scenarios.chaos.storm_plan import Upload
from whisper_processor.audio.media import decode

EMPTY = Queue(visible=0, in_flight=0, delayed=0, dead=0)
REASONS = {
    Upload.MISSING: "The uploaded file was not found: x",
    Upload.NOT_AUDIO: "The file is not a recording that can be read.",
    Upload.EMPTY: "The uploaded file is empty.",
}
PLAN = storm_plan.make_plan(5, storm_plan.SHORT)


def test_a_planted_order_reaches_the_engine_bit_by_bit(tmp_path: Path) -> None:
    order = Order(job="j1", act=Act.SLOW, seconds=1.5)
    (tmp_path / "upload").write_bytes(plant(order))
    assert decode(tmp_path / "upload", tmp_path / "samples", 60) == pytest.approx(0.25)
    assert read_order((tmp_path / "samples").read_bytes()) == order


def test_faults_are_counted_by_kind() -> None:
    metrics = (
        'microburst_faults_total{service="s3",operation="GetObject",action="error:SlowDown"} 3\n'
        'microburst_faults_total{service="sqs",operation="unknown",action="latency:250ms"} 2\n'
        'microburst_faults_total{service="sqs",operation="unknown",action="latency:80ms"} 4\n'
        "microburst_rules_active 1\n"
    )
    assert count_kinds(metrics) == {"throttle": 3, "latency": 6}


@pytest.mark.parametrize("size", [storm_plan.FULL, storm_plan.SHORT])
def test_the_storm_is_decided_by_its_seed(size: storm_plan.Size) -> None:
    plan = storm_plan.make_plan(3, size)
    assert plan == storm_plan.make_plan(3, size)
    assert plan != storm_plan.make_plan(4, size)
    assert len(plan.jobs) == sum(size.jobs.values())
    assert {event.after for event in plan.events} <= set(range(len(plan.jobs)))
    first = [name for _after, name in plan.weather[: len(WEATHER)]]
    assert len(set(first)) == len(first)


def test_the_full_storm_has_the_promised_size() -> None:
    plan = storm_plan.make_plan(1, storm_plan.FULL)
    assert len(plan.jobs) >= 200
    assert sum(job.kind is Upload.REAL for job in plan.jobs) == 10
    assert len(plan.messages) > len(plan.jobs)


def good_storm() -> storm_plan.Outcome:
    rows, transcripts, dead_letters = {}, [], []
    for job in PLAN.jobs:
        if isinstance(job.kind, Upload) and job.kind in REASONS:
            rows[job.id] = Row(job.id, JobStatus.FAILED, REASONS[job.kind], 1, None)
            dead_letters += [DeadLetter(message, "reason") for message in job.messages]
        else:
            said = job.sentence.text if job.sentence else "" if job.kind is Act.SILENT else words_of(job.id)
            rows[job.id] = Row(job.id, JobStatus.COMPLETED, "", 1, 1)
            transcripts.append((job.id, said))
    return storm_plan.Outcome(
        rows, transcripts, {job: f"{text}\n" for job, text in transcripts}, dead_letters, EMPTY
    )


def first(kind: storm_plan.Kind) -> storm_plan.Job:
    return next(job for job in PLAN.jobs if job.kind is kind)


def with_row(outcome: storm_plan.Outcome, row: Row) -> storm_plan.Outcome:
    return replace(outcome, rows={**outcome.rows, row.id: row})


def with_text(outcome: storm_plan.Outcome, job: storm_plan.Job, text: str) -> storm_plan.Outcome:
    return replace(
        outcome,
        transcripts=[(i, text if i == job.id else t) for i, t in outcome.transcripts],
        files={**outcome.files, job.id: text},
    )


SPOKEN, REAL, MISSING = first(Act.SPEAK), first(Upload.REAL), first(Upload.MISSING)
STORM_FAULTS: dict[str, Callable[[storm_plan.Outcome], storm_plan.Outcome]] = {
    "no row": lambda o: replace(o, rows={i: r for i, r in o.rows.items() if i != SPOKEN.id}),
    "still processing": lambda o: with_row(o, Row(SPOKEN.id, JobStatus.PROCESSING, "", 1, None)),
    "failed innocently": lambda o: with_row(o, Row(SPOKEN.id, JobStatus.FAILED, "x", 8, None)),
    "failed for another reason": lambda o: with_row(o, Row(MISSING.id, JobStatus.FAILED, "x", 1, None)),
    "two transcripts": lambda o: replace(o, transcripts=[*o.transcripts, o.transcripts[0]]),
    "no transcript": lambda o: replace(o, transcripts=[t for t in o.transcripts if t[0] != SPOKEN.id]),
    "another job's transcript": lambda o: with_text(o, SPOKEN, words_of("other")),
    "misheard": lambda o: with_text(o, REAL, "Something else was said here."),
    "no file": lambda o: replace(o, files={i: t for i, t in o.files.items() if i != SPOKEN.id}),
    "transcript of a failed job": lambda o: replace(o, transcripts=[*o.transcripts, (MISSING.id, "")]),
    "transcript of nobody": lambda o: replace(o, transcripts=[*o.transcripts, ("other", "")]),
    "row of nobody": lambda o: with_row(o, Row("other", JobStatus.FAILED, "x", 1, None)),
    "message left": lambda o: replace(o, queue=Queue(visible=0, in_flight=1, delayed=0, dead=0)),
    "dead_letter not planted": lambda o: replace(
        o, dead_letters=[*o.dead_letters, DeadLetter(SPOKEN.messages[0], "x")]
    ),
    "dead_letter missing": lambda o: replace(o, dead_letters=o.dead_letters[1:]),
    "worker died": lambda o: replace(o, deaths=["storm-1, exit code 1"]),
}


def test_a_storm_in_which_all_went_as_planned_has_no_problems() -> None:
    assert storm_plan.judge(PLAN, good_storm()).problems == []


@pytest.mark.parametrize("fault", STORM_FAULTS)
def test_the_storms_verdict_finds(fault: str) -> None:
    assert len(storm_plan.judge(PLAN, STORM_FAULTS[fault](good_storm())).problems) == 1


def test_a_dead_letter_may_be_doubled_and_is_counted() -> None:
    outcome = good_storm()
    verdict = storm_plan.judge(
        PLAN, replace(outcome, dead_letters=[*outcome.dead_letters, outcome.dead_letters[0]])
    )
    assert (verdict.problems, verdict.doubled_dead_letters) == ([], 1)


def test_hostile_messages_are_decided_by_the_seed_and_taken_by_sqs() -> None:
    plan = hostile_plan.make_plan(2, hostile_plan.SHORT)
    assert plan == hostile_plan.make_plan(2, hostile_plan.SHORT)
    assert len(plan.hostile) == hostile_plan.SHORT.messages
    assert {message.kind for message in plan.hostile} == set(hostile_plan.Kind)
    assert all(hostile_plan.taken_by_sqs(message.body) for message in plan.messages)


def test_the_hostile_verdict_finds_what_is_wrong() -> None:
    hostile = hostile_plan.Hostile(hostile_plan.Kind.NOT_JSON, "}{")
    valid = hostile_plan.Valid("valid-000", "")
    plan = hostile_plan.Plan((hostile, valid))
    good = hostile_plan.Outcome(
        rows={
            valid.id: Row(valid.id, JobStatus.COMPLETED, "", 1, 1),
            "x": Row("x", JobStatus.FAILED, "no", 1, None),
        },
        transcripts=[(valid.id, "")],
        dead_letters=[DeadLetter(hostile.body, "not JSON")],
        queue=EMPTY,
        worker_ended=None,
    )
    assert hostile_plan.judge(plan, good) == []
    for bad in (
        replace(good, worker_ended="exit code 1"),
        replace(good, dead_letters=[]),
        replace(good, dead_letters=[*good.dead_letters, DeadLetter("other", "x")]),
        replace(good, dead_letters=[DeadLetter(hostile.body, "")]),
        replace(good, rows={**good.rows, "x": Row("x", JobStatus.PROCESSING, "", 1, None)}),
        replace(good, rows={**good.rows, "x": Row("x", JobStatus.FAILED, "", 1, None)}),
        replace(good, rows={**good.rows, valid.id: Row(valid.id, JobStatus.FAILED, "no", 1, None)}),
        replace(good, transcripts=[]),
        replace(good, transcripts=[*good.transcripts, ("x", "")]),
        replace(good, queue=Queue(visible=1, in_flight=0, delayed=0, dead=0)),
    ):
        assert len(hostile_plan.judge(plan, bad)) == 1


def test_the_audio_verdict_finds_what_is_wrong() -> None:
    heard = audio_plan.Case("speech", bytes, audio_plan.Completes(3.5, "Take your seats."))
    refused = audio_plan.Case("text", bytes, audio_plan.Fails("not a recording"))
    done, failed = (
        Row("a", JobStatus.COMPLETED, "", 1, 4),
        Row("a", JobStatus.FAILED, "is not a recording", 1, None),
    )
    assert audio_plan.judge(heard, done, "take your seats") is None
    assert audio_plan.judge(refused, failed, None) is None
    for case, row, text in (
        (heard, None, None),
        (heard, failed, None),
        (heard, done, None),
        (heard, done, ""),
        (heard, replace(done, duration_seconds=60), "take your seats"),
        (refused, done, ""),
        (refused, failed, ""),
        (refused, replace(failed, error="is empty"), None),
    ):
        assert audio_plan.judge(case, row, text) is not None


def test_every_row_of_the_corpus_has_a_name_of_its_own() -> None:
    names = [case.what for case in audio_plan.rows(short=False)]
    assert len(set(names)) == len(names)
    assert 10 <= len(audio_plan.rows(short=True)) < len(names)
