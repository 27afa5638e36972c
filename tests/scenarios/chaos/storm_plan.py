"""The storm's plan and verdict, both pure: which jobs, messages and blows, and what must come of them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from urllib.parse import quote_plus

import jiwer

from contracts.jobs import JobStatus
from contracts.keys import Owner, audio_key
from ops.observability.queues import Queue
from tests.scenarios.chaos.faults import WEATHER
from tests.scenarios.chaos.planted import Act, words_of
from tests.scenarios.chaos.stage import DeadLetter, Row
from whisper_processor.messages import MalformedMessage, parse_message

OWNER = Owner(school_id=1, teacher_id=2)
SPEECH_ERROR_RATE = 0.5
"""Whisper base may mishear a word or two of a short sentence; half wrong would be another sentence."""


class Upload(StrEnum):
    """Recordings without a planted order."""

    REAL = "real speech"
    MISSING = "missing object"
    NOT_AUDIO = "not audio"
    EMPTY = "empty file"


Kind = Act | Upload
_GIVEN_UP = r"was tried \d+ times without success"
FAILURES: dict[Kind, str] = {
    Upload.MISSING: r"was not found",
    Upload.NOT_AUDIO: r"is not a recording",
    Upload.EMPTY: r"is empty",
    Act.CRASH: _GIVEN_UP,
    Act.MEMORY: _GIVEN_UP,
    Act.HANG: _GIVEN_UP,
}
"""The error message the job must end with, as a pattern. Every other kind must complete."""


_BUSY: dict[Kind, tuple[float, float]] = {Act.SLOW: (0.5, 3), Act.LONG: (11, 14)}
"""Seconds; the storm's lease is 5 s."""


@dataclass(frozen=True)
class Sentence:
    """A sentence of samples/lesson.flac, from and to in seconds; cut in the pauses between them."""

    start: float
    end: float
    text: str


SENTENCES = (
    Sentence(0.00, 1.85, "Good morning, everyone."),
    Sentence(1.85, 5.35, "Please take your seats and open your science books."),
    Sentence(5.35, 8.95, "Today we will learn how water moves around our planet."),
    Sentence(8.95, 13.25, "The sun warms the sea, and some of the water rises into the air."),
    Sentence(
        13.25,
        20.40,
        "High above us the air is cold, so the water forms small drops, and many drops together make a cloud.",
    ),
    Sentence(20.40, 24.60, "When the drops grow too heavy, they fall as rain or snow."),
    Sentence(24.60, 29.75, "The rain runs down the hills, fills the rivers, and flows back to the sea."),
    Sentence(29.75, 32.65, "Who can tell me what this cycle is called?"),
    Sentence(32.65, 35.90, "Yes, very good, it is the water cycle."),
    Sentence(35.90, 41.10, "For homework, draw the cycle and write two sentences about each step."),
)


@dataclass(frozen=True)
class Job:
    id: str
    kind: Kind
    copies: int
    """How often its message is sent."""
    notified: bool
    """Whether S3's own notification is sent beside the message."""
    announced: bool
    """Whether the backend made its row."""
    sentence: Sentence | None = None
    busy_seconds: float = 0.0
    """How long the fake engine takes."""

    @property
    def key(self) -> str:
        return audio_key(OWNER, self.id, "lesson.wav")

    @property
    def messages(self) -> list[str]:
        message = json.dumps({"jobId": self.id, "s3Key": self.key})
        record = {"eventName": "ObjectCreated:Put", "s3": {"object": {"key": quote_plus(self.key)}}}
        return [message] * self.copies + [json.dumps({"Records": [record]})] * self.notified

    @property
    def failure(self) -> str | None:
        return FAILURES.get(self.kind)


class Blow(StrEnum):
    KILL_WORKER = "kill -9 worker and child"
    KILL_CHILD = "kill -9 child"
    PAUSE = "pause past the lease"
    TERMINATE = "SIGTERM worker"
    RESTART_DATABASE = "restart database"
    CRASH_DATABASE = "kill -9 database"


@dataclass(frozen=True)
class Event:
    after: int
    """Once so many jobs have ended."""
    blow: Blow
    worker: int
    delay: float
    """Seconds between that moment and the blow, so that it meets a job anywhere."""


@dataclass(frozen=True)
class Size:
    workers: int
    jobs: Mapping[Kind, int]
    blows: Mapping[Blow, int]
    weathers: int
    """How often the weather changes."""
    deadline: float
    """Seconds; what has not ended by then counts as lost."""


FULL = Size(
    workers=3,
    jobs={
        Act.SPEAK: 175,
        Act.SLOW: 16,
        Act.LONG: 4,
        Act.SILENT: 12,
        Act.CRASH_ONCE: 8,
        Act.MEMORY_ONCE: 6,
        Act.HANG_ONCE: 3,
        Act.CRASH: 2,
        Act.MEMORY: 2,
        Act.HANG: 1,
        Upload.REAL: 10,
        Upload.MISSING: 6,
        Upload.NOT_AUDIO: 5,
        Upload.EMPTY: 4,
    },
    blows={
        Blow.KILL_WORKER: 10,
        Blow.KILL_CHILD: 6,
        Blow.PAUSE: 4,
        Blow.TERMINATE: 2,
        Blow.RESTART_DATABASE: 2,
        Blow.CRASH_DATABASE: 1,
    },
    weathers=12,
    deadline=420,
)
SHORT = Size(
    workers=2,
    jobs={
        Act.SPEAK: 16,
        Act.SILENT: 2,
        Act.CRASH_ONCE: 1,
        Act.MEMORY_ONCE: 1,
        Upload.REAL: 2,
        Upload.MISSING: 1,
        Upload.NOT_AUDIO: 1,
        Upload.EMPTY: 1,
    },
    blows={Blow.KILL_WORKER: 1, Blow.PAUSE: 1, Blow.RESTART_DATABASE: 1},
    weathers=5,
    deadline=120,
)


@dataclass(frozen=True)
class Plan:
    jobs: tuple[Job, ...]
    messages: tuple[str, ...]
    """In the order they are sent."""
    events: tuple[Event, ...]
    weather: tuple[tuple[int, str], ...]
    """(after so many jobs, a name of WEATHER)."""


def make_plan(seed: int, size: Size) -> Plan:
    random = Random(seed)
    kinds = [kind for kind, count in size.jobs.items() for _ in range(count)]
    random.shuffle(kinds)
    sentences = list(SENTENCES)
    jobs = tuple(_job(number, kind, random, sentences) for number, kind in enumerate(kinds))
    messages = [message for job in jobs for message in job.messages]
    random.shuffle(messages)
    blows = [blow for blow, count in size.blows.items() for _ in range(count)]
    random.shuffle(blows)
    events = tuple(
        Event(
            after=_spread(number, len(blows), len(jobs)),
            blow=blow,
            worker=random.randrange(size.workers),
            delay=random.uniform(0, 1),
        )
        for number, blow in enumerate(blows)
    )
    # Each kind of weather comes once before any comes twice.
    names: list[str] = []
    while len(names) < size.weathers:
        names += random.sample(sorted(WEATHER), len(WEATHER))
    weather = tuple(
        (_spread(number, size.weathers, len(jobs)), name) for number, name in enumerate(names[: size.weathers])
    )
    return Plan(jobs, tuple(messages), events, weather)


def _job(number: int, kind: Kind, random: Random, sentences: list[Sentence]) -> Job:
    announced = random.random() < 0.9
    copies = random.choices((1, 2, 3), weights=(75, 18, 7))[0]
    return Job(
        id=f"storm-{number:03}",
        kind=kind,
        # Two workers meet such a job for longer than a lease lasts: neither may keep the other from ending it.
        copies=2 if kind is Act.LONG else copies,
        # Without a row S3's notification is a job of its own, found by its key: it would be a second lesson.
        notified=announced and random.random() < 0.1,
        announced=announced,
        sentence=sentences.pop(0) if kind is Upload.REAL else None,
        busy_seconds=round(random.uniform(*_BUSY[kind]), 1) if kind in _BUSY else 0.0,
    )


def _spread(number: int, of: int, jobs: int) -> int:
    """Evenly over the first nine tenths of the jobs, so that each blow still meets work."""
    return int(0.9 * jobs * number / of)


@dataclass(frozen=True)
class Outcome:
    """What was found once the storm was over."""

    rows: Mapping[str, Row]
    transcripts: Sequence[tuple[str, str]]
    files: Mapping[str, str]
    """Job id to the text file in the bucket."""
    dead_letters: Sequence[DeadLetter]
    queue: Queue
    deaths: Sequence[str] = ()
    """Workers that ended by themselves, each with the end of its output."""


@dataclass
class Verdict:
    lost: list[str] = field(default_factory=list)
    """Jobs that did not end as planned."""
    doubled: list[str] = field(default_factory=list)
    """Jobs with more than one transcript."""
    wrong: list[str] = field(default_factory=list)
    """Everything else that must not be."""
    doubled_dead_letters: int = 0
    """A crash between sending a message to the dead-letter queue and deleting it doubles it, and only there."""

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.wrong]


def judge(plan: Plan, outcome: Outcome) -> Verdict:
    verdict = Verdict(wrong=[f"a worker died by itself: {death}" for death in outcome.deaths])
    texts: dict[str, list[str]] = {}
    for job_id, text in outcome.transcripts:
        texts.setdefault(job_id, []).append(text)
    for job in plan.jobs:
        found = texts.pop(job.id, [])
        if len(found) > 1:
            verdict.doubled.append(f"{job.id} ({job.kind}) has {len(found)} transcripts")
        if problem := _judge_job(job, outcome.rows.get(job.id), found, outcome.files.get(job.id)):
            verdict.lost.append(f"{job.id} ({job.kind}): {problem}")
    verdict.wrong += [f"a transcript of {job_id}, which nobody sent" for job_id in texts]
    planned = {job.id for job in plan.jobs}
    verdict.wrong += [f"a row {row}, which nobody sent" for row in outcome.rows if row not in planned]
    queue = outcome.queue
    if queue.backlog:
        verdict.wrong.append(
            f"the queue holds {queue.visible} visible, {queue.in_flight} in flight, {queue.delayed} delayed"
        )
    _judge_dead_letters(plan, outcome.dead_letters, verdict)
    return verdict


def _judge_job(job: Job, row: Row | None, texts: Sequence[str], file: str | None) -> str | None:
    if row is None:
        return "there is no row"
    if job.failure is not None:
        return _judge_failure(job.failure, row, texts)
    if row.status is not JobStatus.COMPLETED:
        return f"should complete, but it is {row.status} after {row.attempts} attempts: {row.error or 'no reason'}"
    if not texts or not _as_planned(job, texts[0]):
        return f"completed, but with the wrong transcript: {texts}"
    if file is None or file.strip() != texts[0]:
        return f"the file in the bucket says something else: {file!r}"
    return None


def _judge_failure(reason: str, row: Row, texts: Sequence[str]) -> str | None:
    if row.status is not JobStatus.FAILED or not re.search(reason, row.error):
        return f"planted to fail with {reason!r}, but it is {row.status}: {row.error or 'no reason'}"
    return f"failed, but has a transcript: {texts[0]!r}" if texts else None


def _as_planned(job: Job, text: str) -> bool:
    if job.sentence is not None:
        return error_rate(job.sentence.text, text) <= SPEECH_ERROR_RATE
    return text == ("" if job.kind is Act.SILENT else words_of(job.id))


def error_rate(reference: str, heard: str) -> float:
    """Word error rate without regard to case and punctuation."""
    plain = jiwer.Compose(
        [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.Strip(), jiwer.ReduceToListOfListOfWords()]
    )
    return float(jiwer.wer(reference, heard or "-", reference_transform=plain, hypothesis_transform=plain))


def _judge_dead_letters(plan: Plan, dead_letters: Sequence[DeadLetter], verdict: Verdict) -> None:
    """Each message of a job planted to fail is in the dead-letter queue, and nothing else is."""
    by_key = {job.key: job for job in plan.jobs}
    count: Counter[str] = Counter()
    for dead_letter in dead_letters:
        try:
            message = parse_message(dead_letter.body)
        except MalformedMessage:
            message = None
        job = by_key.get(message.s3Key) if message else None
        if job is None or job.failure is None:
            whose = f"{job.id} ({job.kind})" if job else dead_letter.body[:80]
            verdict.wrong.append(
                f"in the dead-letter queue, but not planted: {whose}: {dead_letter.reason or 'received too often'}"
            )
        else:
            count[job.id] += 1
    for job in plan.jobs:
        if job.failure is not None:
            sent = len(job.messages)
            verdict.doubled_dead_letters += max(0, count[job.id] - sent)
            if count[job.id] < sent:
                verdict.wrong.append(f"{job.id} ({job.kind}): {count[job.id]} of {sent} messages dead-lettered")
