"""Queue messages and keys: what the backend may send, and what is refused."""

import json
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.jobs import Task
from contracts.keys import Owner, audio_key, owner_of, transcript_key
from whisper_processor.messages import JobMessage, MalformedMessage, parse_message

KEYS = [
    "audio-files/1/2/lesson.mp3",
    "audio-files/1/2/a b+c.mp3",
    "audio-files/1/2/../é%20.wav",
    "audio-files/1/2/授業.m4a",
]


def notification(key: str, event: str = "ObjectCreated:Put") -> str:
    return json.dumps({"Records": [{"eventName": event, "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}]})


def test_a_message_with_id_and_key_is_read_and_unknown_keys_are_ignored() -> None:
    message = parse_message('{"jobId": "j1", "s3Key": "audio-files/1/2/x.mp3", "priority": 3}')
    assert message == JobMessage(jobId="j1", s3Key="audio-files/1/2/x.mp3")
    assert message.task is Task.TRANSCRIBE


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_a_message_is_taken_literally(key: str) -> None:
    message = parse_message(json.dumps({"jobId": "j1", "s3Key": key}))
    assert message is not None
    assert message.s3Key == key


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_an_s3_notification_is_url_decoded(key: str) -> None:
    message = parse_message(notification(quote_plus(key)))
    assert message is not None
    assert message.s3Key == key


def test_two_deliveries_of_one_notification_name_the_same_job() -> None:
    first, second = (parse_message(notification("audio-files/1/2/x.mp3")) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.job_id == second.job_id
    assert len(first.job_id) == 36


def test_the_test_event_s3_sends_is_no_job_and_no_error() -> None:
    assert parse_message('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}') is None


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("", "not JSON"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "no jobId"),
        ('{"jobId": "", "s3Key": "k"}', "no jobId"),
        ('{"jobId": "j1"}', "s3Key"),
        (json.dumps({"jobId": "x" * 37, "s3Key": "k"}), "jobId"),
        (json.dumps({"jobId": "j", "s3Key": "k" * 256}), "s3Key"),
        ('{"jobId": "j", "s3Key": "k", "task": "sing"}', "task"),
        ('{"jobId": "j", "s3Key": "k", "model": "../etc"}', "model"),
        ('{"jobId": "j", "s3Key": "k", "engine": "kaldi"}', "engine"),
        ('{"jobId": "j", "s3Key": "k\\u0000"}', "cannot be stored"),
        ('{"jobId": "\\ud800", "s3Key": "k"}', "malformed"),
        ('{"Records": []}', "not one S3"),
        (notification("k", "ObjectRemoved:Delete"), "not one S3"),
        ("[" * 100_000, "not"),
    ],
)
def test_a_malformed_message_is_refused_with_what_is_wrong(body: str, complaint: str) -> None:
    with pytest.raises(MalformedMessage, match=complaint):
        parse_message(body)


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_either_read_or_refused(body: str) -> None:
    try:
        parse_message(body)
    except MalformedMessage as error:
        assert str(error)  # noqa: PT017 - any other exception fails the test


@given(
    st.dictionaries(
        st.sampled_from(["jobId", "s3Key", "model", "engine", "language", "task", "Records", "Event"]),
        st.none() | st.integers() | st.text(max_size=50) | st.lists(st.text(max_size=5)),
    )
)
def test_any_object_is_either_read_or_refused(document: dict[str, object]) -> None:
    try:
        message = parse_message(json.dumps(document))
    except MalformedMessage:
        return
    assert message is None or 1 <= len(message.job_id) <= 36


@given(st.integers(1, 999_999), st.integers(1, 999_999), st.text(min_size=1, max_size=50))
def test_the_owner_is_read_back_from_the_key_made_for_him(school: int, teacher: int, name: str) -> None:
    owner = Owner(school_id=school, teacher_id=teacher)
    assert owner_of(audio_key(owner, "id", name)) == owner


@pytest.mark.parametrize(
    "key", ["x.mp3", "audio-files/1/x.mp3", "audio-files/a/b/x.mp3", "audio-files/1/2/", "audio-files/٣/2/x"]
)
def test_a_key_outside_the_layout_has_no_owner(key: str) -> None:
    assert owner_of(key) is None


@given(st.text(min_size=1, max_size=36))
def test_an_output_never_leaves_its_teachers_folder(job_id: str) -> None:
    key = transcript_key(Owner(school_id=1, teacher_id=2), job_id, "vtt")
    assert key.startswith("transcripts/1/2/")
    assert key.count("/") == 3


def test_a_number_of_more_digits_than_python_reads_is_malformed() -> None:
    with pytest.raises(MalformedMessage, match="not JSON"):
        parse_message('{"jobId": "j1", "s3Key": ' + "9" * 5000 + "}")
