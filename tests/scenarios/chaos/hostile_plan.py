"""What anybody who may write to the queue could put there, by hypothesis, and where it must end. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from contracts.jobs import JobStatus
from contracts.keys import AUDIO_PREFIX, audio_key
from ops.observability.queues import Queue
from tests.scenarios.chaos.stage import DeadLetter, Row
from tests.scenarios.chaos.storm_plan import OWNER, SENTENCES, SPEECH_ERROR_RATE, error_rate

MOST_BYTES = 1024 * 1024
"""SQS takes no longer body."""
SPEECH_KEY = f"{AUDIO_PREFIX}1/2/hostile-speech.flac"
"""An object that is there: what is wrong with a message that names it is what it asks for."""
_NOT_TAKEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""SQS refuses any other character, so no worker ever meets one unescaped."""


class Kind(StrEnum):
    NOT_JSON = "not JSON"
    BINARY = "binary"
    NO_OBJECT = "JSON, but no object"
    NESTED = "deep nesting"
    NUMBERS = "huge numbers"
    WRONG_TYPES = "wrong types"
    UNSTORABLE = "NUL and lone surrogates"
    SQL = "SQL in names"
    PATHS = "path traversal in keys"
    OVERLONG = "overlong names"
    REQUESTS = "wrong engine, model, language, task"
    UNFULFILLABLE = "well-formed requests that cannot be met"
    NOTIFICATIONS = "S3 notifications of odd shapes"
    TEST_EVENTS = "S3 test events"
    LONG = "as long as SQS takes"


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
_scalar = st.none() | st.booleans() | st.integers() | st.floats() | _text
_value = st.recursive(
    _scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4), max_leaves=8
)
_id = st.uuids().map(str)
_key = st.builds(lambda name: f"{AUDIO_PREFIX}1/2/{name or 'x'}"[:255], _text)


def _message(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """A message that is right but for the fields given."""
    return st.fixed_dictionaries({"jobId": _id, "s3Key": _key} | fields).map(json.dumps)


def _raw(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON text that json.dumps would not write."""
    return st.tuples(*parts).map(lambda values: template % values)


_nested = st.builds(
    lambda depth, opening, closing, wrap: wrap % (opening * depth + "1" + closing * depth),
    st.integers(50, 50_000),
    st.just("["),
    st.just("]"),
    st.sampled_from(["%s", '{"jobId": "x", "s3Key": %s}', '{"Records": %s}', '{"jobId": %s, "s3Key": "y"}']),
) | st.builds(lambda depth: '{"a":' * depth + "1" + "}" * depth, st.integers(50, 50_000))

_number = st.one_of(
    st.integers(1, 20_000).map(lambda digits: "9" * digits),
    st.integers(300, 100_000).map(lambda exponent: f"1e{exponent}"),
    st.sampled_from(["NaN", "Infinity", "-Infinity", "-0.0", "1E+400"]),
)
_numbers = st.one_of(
    _raw('{"jobId": %s, "s3Key": "x"}', _number),
    _raw('{"jobId": "x", "s3Key": %s}', _number),
    _raw('{"jobId": "%s", "s3Key": "audio-files/1/2/x", "task": %s}', _id, _number),
    _raw('{"jobId": "%s", "s3Key": "audio-files/%s/2/x"}', _id, _number),
    _raw('{"jobId": "%s", "s3Key": "audio-files/1/2/missing", "extra": %s}', _id, _number),
)

_bad_character = st.sampled_from(["\x00", "\ud800", "\udfff", "\udc00\ud800"])
_spoiled = st.builds(lambda before, bad, after: f"{before}{bad}{after}"[:36], _text, _bad_character, _text)

_injection = st.sampled_from(
    [
        "'; DROP TABLE transcripts; -- ",
        '" OR "1"="1',
        "x' OR 1=1 #",
        "%s%s%n",
        "{{7*7}}",
        "$(reboot)",
        "`id`",
        "\\'; --",
        "%",
        "_",
    ]
)
_path = st.sampled_from(
    [
        "../" * 8 + "etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "audio-files/1/2/../../../models/x",
        "audio-files/1/2/./x",
        "audio-files//1//2//x",
        "file:///etc/passwd",
        "concat:/etc/passwd|/etc/group",
        "-i",
        "|id",
        "s3://other/audio-files/1/2/x",
        "audio-files/1/2/..",
        "audio-files/../../1/2/x",
        "transcripts/1/2/x.json",
    ]
)

_odd_record = st.one_of(
    _value,
    st.fixed_dictionaries({"eventName": _value, "s3": _value}),
    st.fixed_dictionaries(
        {"eventName": st.just("ObjectCreated:Put"), "s3": st.fixed_dictionaries({"object": _value})}
    ),
    st.fixed_dictionaries(
        {
            "eventName": st.sampled_from(
                ["ObjectRemoved:Delete", "ObjectCreated:Put", "", "ReducedRedundancyLostObject"]
            ),
            "s3": st.fixed_dictionaries(
                {"object": st.fixed_dictionaries({"key": _text | st.just("%00%ff+%E2%28%A1")})}
            ),
        }
    ),
)
_notifications = st.fixed_dictionaries({"Records": _value | st.lists(_odd_record, max_size=3)}).map(json.dumps)

_bad_request = st.one_of(
    st.fixed_dictionaries({"engine": st.sampled_from(["whisper", "", "FASTER-WHISPER", "../x"]) | _value}),
    st.fixed_dictionaries(
        {"model": st.sampled_from(["../../etc", "", "-base", "Base", "a" * 65]) | st.integers()}
    ),
    st.fixed_dictionaries({"language": st.sampled_from(["english", "EN", "", "e", "e\n"]) | st.integers()}),
    st.fixed_dictionaries({"task": st.sampled_from(["summarise", "", "TRANSCRIBE"]) | st.integers()}),
    st.fixed_dictionaries({"wordTimestamps": st.sampled_from(["perhaps", 7, [], {}])}),
).filter(lambda request: any(value is not None for value in request.values()))
_unmet_request = st.one_of(
    st.fixed_dictionaries({"model": st.sampled_from(["large-v3", "base.en", "no-such-model", "a" * 64])}),
    st.fixed_dictionaries({"engine": st.just("openai-whisper"), "model": st.just("large-v3")}),
    st.fixed_dictionaries({"language": st.sampled_from(["zz", "xx", "qqq"])}),
)


def _with_request(
    key: st.SearchStrategy[str], request: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[str]:
    return st.builds(lambda i, k, asked: json.dumps({"jobId": i, "s3Key": k} | asked), _id, key, request)


def _of_length(size: int, shape: str) -> str:
    return shape % ("x" * (size - len(shape) + 2))


STRATEGIES: Mapping[Kind, st.SearchStrategy[str]] = {
    Kind.NOT_JSON: st.text(min_size=1, max_size=400)
    | _message().map(lambda text: text[:-1])
    | _message().map("﻿".__add__),
    Kind.BINARY: st.binary(min_size=1, max_size=400).map(lambda raw: raw.decode("latin-1")),
    Kind.NO_OBJECT: (_scalar | st.lists(_value, max_size=4)).map(json.dumps),
    Kind.NESTED: _nested,
    Kind.NUMBERS: _numbers,
    Kind.WRONG_TYPES: st.one_of(
        _message(jobId=_value),
        _message(s3Key=_value),
        _message(jobId=st.just(None)),
        st.dictionaries(st.sampled_from(["jobId", "s3Key", "Event", "job_id", ""]) | _text, _value).map(
            json.dumps
        ),
    ),
    Kind.UNSTORABLE: st.one_of(
        _message(jobId=_spoiled),
        _message(s3Key=_spoiled.map((AUDIO_PREFIX + "1/2/").__add__)),
        _message(model=_spoiled),
        _message(language=_spoiled),
    ),
    Kind.SQL: st.one_of(
        _message(jobId=st.builds(lambda sql, text: (sql + text)[:36], _injection, _text)),
        _message(s3Key=_injection.map((AUDIO_PREFIX + "1/2/").__add__)),
        _message(s3Key=_injection),
    ),
    Kind.PATHS: _message(s3Key=st.builds("{}{}".format, _path, st.integers(0, 99) | st.just(""))),
    Kind.OVERLONG: st.one_of(
        _message(jobId=st.integers(37, 5000).map("i".__mul__)),
        _message(s3Key=st.integers(256, 5000).map("k".__mul__)),
        _message(s3Key=st.integers(200, 239).map(lambda n: AUDIO_PREFIX + "1/2/" + "\U0001f40b" * n)),
        _message(s3Key=st.just(AUDIO_PREFIX + "9" * 12 + "/" + "9" * 12 + "/x")),
    ),
    Kind.REQUESTS: _with_request(st.just(SPEECH_KEY), _bad_request),
    Kind.UNFULFILLABLE: _with_request(st.just(SPEECH_KEY), _unmet_request),
    Kind.NOTIFICATIONS: _notifications,
    Kind.TEST_EVENTS: st.fixed_dictionaries(
        {"Service": st.just("Amazon S3"), "Event": st.just("s3:TestEvent"), "RequestId": _text}
    ).map(json.dumps),
    Kind.LONG: st.builds(
        _of_length,
        st.integers(MOST_BYTES - 2000, MOST_BYTES),
        st.sampled_from(
            ["%s", '{"jobId": "long", "s3Key": "%s"}', '["%s"]', '{"jobId": "%s"}', '{"Records": "%s"}']
        ),
    ),
}


@dataclass(frozen=True)
class Size:
    messages: int
    valid: int
    deadline: float


FULL = Size(messages=2000, valid=60, deadline=400)
SHORT = Size(messages=150, valid=8, deadline=100)
_RARE = {Kind.LONG: 0.005, Kind.UNFULFILLABLE: 0.02, Kind.TEST_EVENTS: 0.03}
"""Shares of the costly or dull kinds; the others share the rest evenly."""


@dataclass(frozen=True)
class Hostile:
    kind: Kind
    body: str


@dataclass(frozen=True)
class Valid:
    id: str
    text: str
    """Empty: the recording is silence."""

    @property
    def key(self) -> str:
        return audio_key(OWNER, self.id, "lesson.flac")

    @property
    def body(self) -> str:
        return json.dumps({"jobId": self.id, "s3Key": self.key})


@dataclass(frozen=True)
class Plan:
    messages: tuple[Hostile | Valid, ...]

    @property
    def hostile(self) -> list[Hostile]:
        return [message for message in self.messages if isinstance(message, Hostile)]

    @property
    def valid(self) -> list[Valid]:
        return [message for message in self.messages if isinstance(message, Valid)]


def make_plan(number: int, size: Size) -> Plan:
    counts = {kind: max(1, round(size.messages * share)) for kind, share in _RARE.items()}
    common = [kind for kind in Kind if kind not in _RARE]
    left = size.messages - sum(counts.values())
    for place, kind in enumerate(common):
        counts[kind] = left // len(common) + (place < left % len(common))
    messages: list[Hostile | Valid] = []
    for kind, count in counts.items():
        others = frozenset(message.body for message in messages)  # so that a body found tells its kind
        messages += [Hostile(kind, body) for body in generate(STRATEGIES[kind], count, number, others)]
    spoken = {place: SENTENCES[place].text for place in range(min(3, size.valid))}
    messages += [Valid(f"valid-{place:03}", spoken.get(place, "")) for place in range(size.valid)]
    Random(number).shuffle(messages)
    return Plan(tuple(messages))


def generate(
    strategy: st.SearchStrategy[str], count: int, number: int, others: frozenset[str] = frozenset()
) -> list[str]:
    """`count` bodies that SQS takes and that are not among `others`, the same for the same `number`."""
    found: list[str] = []
    for round_ in range(100):
        found += _draw(
            strategy.filter(lambda body: taken_by_sqs(body) and body not in others),
            count - len(found),
            number * 100 + round_,
        )
        if len(found) >= count:
            return found[:count]
    raise ValueError(f"only {len(found)} of {count} messages could be generated")


def _draw(strategy: st.SearchStrategy[str], count: int, number: int) -> list[str]:
    drawn: list[str] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def collect(body: str) -> None:
        drawn.append(body)

    run: Callable[[], None] = collect
    run()
    return drawn


def taken_by_sqs(body: str) -> bool:
    return bool(body) and _NOT_TAKEN.search(body) is None and len(body.encode()) <= MOST_BYTES


@dataclass(frozen=True)
class Outcome:
    rows: Mapping[str, Row]
    """All that were not there before."""
    transcripts: Sequence[tuple[str, str]]
    dead_letters: Sequence[DeadLetter]
    queue: Queue
    worker_ended: str | None
    """The end of the worker's output, when it did not survive."""


def judge(plan: Plan, outcome: Outcome) -> list[str]:
    """Each hostile message is in the dead-letter queue once, with a reason. A job that it made has failed."""
    problems = [f"the worker did not survive: {outcome.worker_ended}"] if outcome.worker_ended is not None else []
    dead = Counter(start_of(dead_letter.body) for dead_letter in outcome.dead_letters)
    expected = Counter(start_of(m.body) for m in plan.hostile if m.kind is not Kind.TEST_EVENTS)
    kinds = {start_of(m.body): m.kind for m in plan.hostile}
    for body, count in (expected - dead).items():
        problems.append(f"{count} missing in the dead-letter queue: {kinds[body]}: {body[:120]!a}")
    for body, count in (dead - expected).items():
        problems.append(f"{count} too many in the dead-letter queue: {kinds.get(body, 'valid')}: {body[:120]!a}")
    problems += [
        f"dead-lettered without a reason: {kinds.get(start_of(x.body))}: {x.body[:120]!a}"
        for x in outcome.dead_letters
        if not x.reason
    ]
    texts = dict(outcome.transcripts)
    for job in plan.valid:
        row = outcome.rows.get(job.id)
        if row is None or row.status is not JobStatus.COMPLETED:
            problems.append(f"{job.id} should complete, but is {row.status if row else 'not there'}")
        elif not _right(job.text, texts.get(job.id)):
            problems.append(f"{job.id} has the transcript {texts.get(job.id)!r}")
    valid = {job.id for job in plan.valid}
    for row in outcome.rows.values():
        if row.id not in valid and (row.status is not JobStatus.FAILED or not row.error):
            problems.append(f"the job {row.id!a} of a hostile message is {row.status}: {row.error or 'no reason'}")
    problems += [f"a transcript of the hostile {job_id!a}" for job_id in texts if job_id not in valid]
    if outcome.queue.backlog:
        problems.append(f"the queue still holds {outcome.queue.backlog} messages")
    return problems


def start_of(body: str) -> str:
    """What tells bodies apart: the reason counts against SQS's limit too, so the end of the longest may be cut."""
    return body[:50_000]


def _right(expected: str, text: str | None) -> bool:
    if text is None:
        return False
    return error_rate(expected, text) <= SPEECH_ERROR_RATE if expected else text == ""
