"""`make dlq` and `make redrive` against the real queues: what lies there, why, and what goes back."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from contracts.jobs import JobStatus
from ops.aws.connection import Connection
from ops.infrastructure.migrate import migrate
from ops.lessons import dead_letters, lesson
from ops.observability import queues
from ops.settings import OpsSettings


@dataclass
class OwnQueues:
    """Queues and jobs of this test alone, behind the connection the verbs use."""

    aws: Connection

    def job(self, state: str) -> str:
        job_id = str(uuid.uuid4())
        with self.aws.database() as database, database.cursor() as cursor:
            cursor.execute(
                "INSERT INTO audio_jobs (id, school_id, teacher_id, s3_key, status, attempts, error_message)"
                " VALUES (%s, 1, 1, 'audio-files/1/1/x.mp3', %s, 5, 'why')",
                (job_id, state),
            )
        return job_id

    def dead_letter(self, body: str, reason: str | None) -> None:
        attributes = {"Reason": {"DataType": "String", "StringValue": reason}} if reason else {}
        self.aws.sqs.send_message(
            QueueUrl=self.aws.foundation["DlqUrl"],
            MessageBody=body,
            MessageAttributes=attributes,  # type: ignore[arg-type]
        )

    def waiting(self) -> list[str]:
        url = self.aws.foundation["QueueUrl"]
        found = self.aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return sorted(json.loads(message["Body"])["jobId"] for message in found.get("Messages", []))

    def dead(self) -> int:
        return queues.read_queue(self.aws).dead


def message(job_id: str) -> str:
    return json.dumps({"jobId": job_id, "s3Key": "audio-files/1/1/x.mp3"})


@pytest.fixture
def own(settings: OpsSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnQueues]:
    aws = Connection(settings)
    migrate(aws.database())
    name = f"lessons-{uuid.uuid4().hex[:8]}"
    urls = {
        "QueueUrl": aws.sqs.create_queue(QueueName=name)["QueueUrl"],
        "DlqUrl": aws.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"],
    }
    monkeypatch.setattr(Connection, "foundation", property(lambda _self: urls))
    yield OwnQueues(aws)
    for url in urls.values():
        aws.sqs.delete_queue(QueueUrl=url)


def test_dlq_says_what_lies_there_and_why_and_leaves_it_there(own: OwnQueues) -> None:
    job_id = own.job("failed")
    own.dead_letter(message(job_id), "not a recording")
    own.dead_letter("{ not json", "the message is not JSON")
    own.dead_letter(message("gone"), None)
    for _ in range(2):
        found = {found.job_id: found.reason for found in dead_letters.look(own.aws, 50)}
        assert found[job_id] == "not a recording"
        assert found[None] == "the message is not JSON"
        assert "received too often" in found["gone"]


def test_redrive_sends_back_what_can_be_read_and_resets_its_jobs(own: OwnQueues) -> None:
    failed, stuck, done = own.job("failed"), own.job("processing"), own.job("completed")
    own.dead_letter(message(failed), "S3 was away")
    own.dead_letter(message(stuck), None)
    own.dead_letter(message(done), None)
    own.dead_letter("{ not json", "the message is not JSON")
    said: list[str] = []
    assert dead_letters.redrive(own.aws, 50, dry_run=False, say=said.append) == 3
    assert own.waiting() == sorted([failed, stuck, done])
    assert own.dead() == 1
    for job_id in (failed, stuck):
        job = lesson.find_job(own.aws, job_id)
        assert (job.status, job.attempts, job.error_message) == (JobStatus.QUEUED, 0, None)
    assert lesson.find_job(own.aws, done).status is JobStatus.COMPLETED
    assert any(line.startswith("left: ") for line in said)


def test_a_job_that_is_being_worked_on_is_not_reset_by_an_old_message(own: OwnQueues) -> None:
    busy = own.job("processing")
    own.dead_letter(message(busy), "S3 was away")
    dead_letters.redrive(own.aws, 50, dry_run=False, say=lambda _: None)
    assert lesson.find_job(own.aws, busy).status is JobStatus.PROCESSING


def test_a_dry_run_moves_nothing(own: OwnQueues) -> None:
    job_ids = [own.job("failed") for _ in range(23)]
    for job_id in job_ids:
        own.dead_letter(message(job_id), "S3 was away")
    assert dead_letters.redrive(own.aws, 50, dry_run=True, say=lambda _: None) == 23
    assert (own.dead(), own.waiting()) == (23, [])
    assert lesson.find_job(own.aws, job_ids[0]).status is JobStatus.FAILED


def test_the_limit_holds(own: OwnQueues) -> None:
    for _ in range(15):
        own.dead_letter(message(own.job("failed")), "S3 was away")
    assert dead_letters.redrive(own.aws, 12, dry_run=False, say=lambda _: None) == 12
    assert own.dead() == 3
