"""The dead-letter queue: list its messages with their reasons, and redrive them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pymysql.cursors import DictCursor

from contracts.jobs import JobStatus
from ops.aws.connection import Connection
from whisper_processor.messages import MalformedMessage, parse_message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_VISIBILITY_SECONDS = 30


@dataclass(frozen=True)
class DeadLetter:
    receipt: str
    body: str
    sent_at: datetime
    reason: str
    job_id: str | None
    """None when the message cannot be read."""
    told: bool
    """Whether the worker moved it here and told the job; SQS itself tells nobody when it moves a message here."""


def look(aws: Connection, limit: int) -> list[DeadLetter]:
    """Up to `limit` messages of the queue. Each is in flight while it is read, and visible again at once."""
    found = list(_receive(aws, limit))
    for dead_letter in found:
        _put_back(aws, dead_letter)
    return found


def redrive(aws: Connection, limit: int, *, dry_run: bool, say: Callable[[str], None]) -> int:
    """Send up to `limit` readable messages to the lesson queue again; returns how many.

    First the row goes back to `queued` with no attempts, then the message is sent, and last it is deleted here. A
    crash in between sends a lesson twice, which the worker's guard makes harmless; none is lost. Messages that
    cannot be read stay in the queue, and so do those that fail again while this runs.
    """
    started = datetime.now(UTC)
    moved, left = 0, list[DeadLetter]()
    with aws.database() as database, database.cursor() as cursor:
        for dead_letter in _receive(aws, limit):
            if dead_letter.job_id is None or dead_letter.sent_at > started:
                say(f"left: {dead_letter.reason}")
                left.append(dead_letter)
                continue
            moved += 1
            say(f"{'would go' if dry_run else 'goes'} back: job {dead_letter.job_id} ({dead_letter.reason})")
            if dry_run:
                left.append(dead_letter)
                continue
            _reset_job(cursor, dead_letter)
            aws.sqs.send_message(QueueUrl=aws.foundation["QueueUrl"], MessageBody=dead_letter.body)
            aws.sqs.delete_message(QueueUrl=aws.foundation["DlqUrl"], ReceiptHandle=dead_letter.receipt)
    for dead_letter in left:
        _put_back(aws, dead_letter)
    return moved


def _reset_job(cursor: DictCursor, dead_letter: DeadLetter) -> None:
    # A job that nobody told of its message still has its last state, `processing` included.
    states = (
        (JobStatus.FAILED,) if dead_letter.told else (JobStatus.FAILED, JobStatus.PROCESSING, JobStatus.QUEUED)
    )
    cursor.execute(
        "UPDATE audio_jobs SET status=%s, attempts=0, error_message=NULL WHERE id=%s AND status IN %s",
        (JobStatus.QUEUED, dead_letter.job_id, states),
    )


def _put_back(aws: Connection, dead_letter: DeadLetter) -> None:
    aws.sqs.change_message_visibility(
        QueueUrl=aws.foundation["DlqUrl"], ReceiptHandle=dead_letter.receipt, VisibilityTimeout=0
    )


def _receive(aws: Connection, limit: int) -> Iterator[DeadLetter]:
    seen: set[str] = set()
    while len(seen) < limit:
        answer = aws.sqs.receive_message(
            QueueUrl=aws.foundation["DlqUrl"],
            MaxNumberOfMessages=min(10, limit - len(seen)),
            VisibilityTimeout=_VISIBILITY_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        fresh = [m for m in answer.get("Messages", []) if m["MessageId"] not in seen]
        if not fresh:
            return
        for message in fresh:
            seen.add(message["MessageId"])
            yield _dead_letter(message)


def _dead_letter(message: MessageTypeDef) -> DeadLetter:
    attributes = message.get("MessageAttributes", {})
    reason = attributes["Reason"].get("StringValue") if "Reason" in attributes else None
    job_id: str | None = None
    try:
        parsed = parse_message(message["Body"])
        job_id = parsed.job_id if parsed else None
    except MalformedMessage as error:
        reason = reason or str(error)
    return DeadLetter(
        receipt=message["ReceiptHandle"],
        body=message["Body"],
        sent_at=datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC),
        reason=reason or "received too often: the worker died with it, or gave it back, each time",
        job_id=job_id,
        told=reason is not None,
    )
