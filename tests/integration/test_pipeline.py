"""The main job, end to end: real emulator, Lambda, database, processor and model."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import jiwer
import pytest

from contracts.jobs import JobStatus
from contracts.keys import Owner
from contracts.tags import PROCESSOR_TAG
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.aws.logs import read_events
from ops.capacity import appliance
from ops.lessons import lesson
from ops.lessons.timeline import timeline
from ops.observability import queues
from ops.settings import REPOSITORY
from testbed.waiting import wait_until
from whisper_processor import __version__

SAMPLE = REPOSITORY / "samples" / "lesson.flac"
REFERENCE = REPOSITORY / "samples" / "lesson.txt"
OWNER = Owner(school_id=7, teacher_id=42)

NORMALISE = jiwer.Compose(
    [
        jiwer.ToLowerCase(),
        jiwer.RemovePunctuation(),
        jiwer.RemoveMultipleSpaces(),
        jiwer.Strip(),
        jiwer.ReduceToListOfListOfWords(),
    ]
)


def word_error_rate(reference: str, heard: str) -> float:
    return float(jiwer.wer(reference, heard, reference_transform=NORMALISE, hypothesis_transform=NORMALISE))


@pytest.fixture(scope="module")
def finished(deployed: Connection) -> tuple[str, datetime, datetime]:
    """One lesson through everything: its job's id, when it was submitted, when the instance stood still again."""
    submitted = datetime.now(UTC)
    job_id = lesson.submit(deployed, SAMPLE, OWNER, {})
    job = lesson.follow(deployed, job_id, timeout=240)
    assert job.status is JobStatus.COMPLETED, job.error_message
    appliance.wait_for(deployed, "stopped", 60)
    return job_id, submitted, datetime.now(UTC)


def test_the_transcript_says_what_the_sample_says(
    deployed: Connection, finished: tuple[str, datetime, datetime]
) -> None:
    transcript = lesson.transcript(deployed, finished[0])
    assert word_error_rate(REFERENCE.read_text(), transcript.text) <= 0.05
    assert transcript.word_count == len(transcript.text.split())
    assert 0.5 < transcript.confidence <= 1


def test_the_job_row_is_complete(deployed: Connection, finished: tuple[str, datetime, datetime]) -> None:
    job = lesson.find_job(deployed, finished[0])
    assert (job.progress, job.attempts, job.error_message) == (100, 1, None)
    assert (job.school_id, job.teacher_id) == (7, 42)
    assert job.duration_seconds is not None
    assert 20 <= job.duration_seconds <= 60
    assert job.started_at is not None
    assert job.completed_at is not None
    assert job.started_at <= job.completed_at


def test_the_queue_is_empty_afterwards(deployed: Connection, finished: tuple[str, datetime, datetime]) -> None:
    queue = queues.read_queue(deployed)
    assert (queue.backlog, queue.dead) == (0, 0)


def test_the_upload_itself_made_the_autoscaler_start_the_instance(
    deployed: Connection, finished: tuple[str, datetime, datetime]
) -> None:
    decisions = [e.fields for e in read_events(deployed, finished[1]) if e.fields.get("action") == "start"]
    assert decisions
    assert decisions[0]["trigger"] == "upload"


def test_the_timeline_is_in_order(deployed: Connection, finished: tuple[str, datetime, datetime]) -> None:
    job_id, submitted, stopped = finished
    moments = timeline(read_events(deployed, submitted), job_id, submitted, stopped)
    times = [moment.time for moment in moments]
    assert None not in times, moments
    assert times == sorted(t for t in times if t)


def test_outputs_lie_beside_each_other_in_the_bucket(
    deployed: Connection, finished: tuple[str, datetime, datetime]
) -> None:
    prefix = f"transcripts/7/42/{finished[0]}"
    bucket = deployed.foundation["BucketName"]
    found = deployed.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
    assert {o["Key"].removeprefix(prefix) for o in found["Contents"]} == {".json", ".vtt", ".srt", ".txt"}


def test_the_log_is_json_and_keeps_its_secrets(
    deployed: Connection, finished: tuple[str, datetime, datetime], local_cloud: LocalCloud
) -> None:
    copies = list(local_cloud.root.glob("instances/*/processor.log"))
    lines = [line for copy in copies for line in copy.read_text().splitlines()]
    events = [json.loads(line) for line in lines]
    assert {"worker_started", "job_started", "job_completed", "instance_stopping"} <= {e["event"] for e in events}
    assert all(e["job_id"] for e in events if e["event"].startswith("job_"))
    log = "\n".join(lines)
    assert str(local_cloud.database.credentials()["password"]) not in log
    assert "X-Amz-Signature" not in log
    words = lesson.transcript(deployed, finished[0]).text.split()
    assert not any(" ".join(words[at : at + 4]) in log for at in range(0, len(words) - 4, 4))


def test_the_worker_has_said_which_version_runs_on_the_instance(
    deployed: Connection, finished: tuple[str, datetime, datetime]
) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in deployed.instance()["Tags"]}
    assert tags[PROCESSOR_TAG] == __version__


def test_a_second_delivery_of_a_finished_job_changes_nothing(
    deployed: Connection, finished: tuple[str, datetime, datetime]
) -> None:
    job_id = finished[0]
    before = lesson.find_job(deployed, job_id), lesson.transcript(deployed, job_id)
    body = json.dumps({"jobId": job_id, "s3Key": before[0].s3_key})
    deployed.sqs.send_message(QueueUrl=deployed.foundation["QueueUrl"], MessageBody=body)
    deployed.ec2.start_instances(InstanceIds=[deployed.instance()["InstanceId"]])
    wait_until("the queue is empty", lambda: not queues.read_queue(deployed).backlog)
    appliance.wait_for(deployed, "stopped", 60)
    assert (lesson.find_job(deployed, job_id), lesson.transcript(deployed, job_id)) == before
    assert queues.read_queue(deployed).backlog == 0


def test_a_file_without_sound_fails_for_good_with_a_text_for_the_support_team(deployed: Connection) -> None:
    key = "audio-files/7/42/notes + plan ü.mp3"
    deployed.s3.put_object(Bucket=deployed.foundation["BucketName"], Key=key, Body=b"these are my notes" * 100)
    body = json.dumps({"jobId": "not-audio", "s3Key": key})
    deployed.sqs.send_message(QueueUrl=deployed.foundation["QueueUrl"], MessageBody=body)
    wait_until("the queue is empty", lambda: not queues.read_queue(deployed).backlog)
    job = lesson.find_job(deployed, "not-audio")
    assert job.status is JobStatus.FAILED
    assert "not a recording" in (job.error_message or "")
    assert queues.read_queue(deployed).dead == 1
    appliance.wait_for(deployed, "stopped", 60)


def test_the_one_minute_rule_runs_the_autoscaler_too(deployed: Connection) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    wait_until(
        "a tick of the rule",
        lambda: any(e.fields.get("trigger") == "schedule" for e in read_events(deployed, since)),
        100,
    )
