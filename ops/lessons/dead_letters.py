"""The dead-letter queue: see what lies there and why, and give it another chance."""

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

_LOOK_SECONDS = 30


@dataclass(frozen=True)
class DeadLetter:
    receipt: str
    body: str
    sent_at: datetime
    reason: str
    job_id: str | None
    """None when the message cannot be read."""
    told: bool
    """Whether the worker buried it and told the job; SQS itself tells nobody when it moves a message here."""


def look(aws: Connection, limit: int) -> list[DeadLetter]:
    """Up to `limit` dead letters; each is hidden while we look and visible again at once afterwards."""
    letters = list(_receive(aws, limit))
    for letter in letters:
        _put_back(aws, letter)
    return letters


def redrive(aws: Connection, limit: int, *, dry_run: bool, say: Callable[[str], None]) -> int:
    """Send up to `limit` readable dead letters to the lesson queue again; returns how many.

    In this order: row back to `queued` with its attempts at zero, message sent, dead letter deleted. A crash in
    between sends a lesson twice, which the worker's guard makes harmless; none is lost. Messages that cannot be
    read stay where they are, and so do those that fail anew while this runs.
    """
    started = datetime.now(UTC)
    moved, left = 0, list[DeadLetter]()
    with aws.database() as database, database.cursor() as cursor:
        for letter in _receive(aws, limit):
            if letter.job_id is None or letter.sent_at > started:
                say(f"left: {letter.reason}")
                left.append(letter)
                continue
            moved += 1
            say(f"{'would go' if dry_run else 'goes'} back: job {letter.job_id} ({letter.reason})")
            if dry_run:
                left.append(letter)
                continue
            _reset_job(cursor, letter)
            aws.sqs.send_message(QueueUrl=aws.foundation["QueueUrl"], MessageBody=letter.body)
            aws.sqs.delete_message(QueueUrl=aws.foundation["DlqUrl"], ReceiptHandle=letter.receipt)
    for letter in left:
        _put_back(aws, letter)
    return moved


def _reset_job(cursor: DictCursor, letter: DeadLetter) -> None:
    # A job nobody told of its message's end still says what it said last, `processing` included.
    states = (JobStatus.FAILED,) if letter.told else (JobStatus.FAILED, JobStatus.PROCESSING, JobStatus.QUEUED)
    cursor.execute(
        "UPDATE audio_jobs SET status=%s, attempts=0, error_message=NULL WHERE id=%s AND status IN %s",
        (JobStatus.QUEUED, letter.job_id, states),
    )


def _put_back(aws: Connection, letter: DeadLetter) -> None:
    aws.sqs.change_message_visibility(
        QueueUrl=aws.foundation["DlqUrl"], ReceiptHandle=letter.receipt, VisibilityTimeout=0
    )


def _receive(aws: Connection, limit: int) -> Iterator[DeadLetter]:
    seen: set[str] = set()
    while len(seen) < limit:
        answer = aws.sqs.receive_message(
            QueueUrl=aws.foundation["DlqUrl"],
            MaxNumberOfMessages=min(10, limit - len(seen)),
            VisibilityTimeout=_LOOK_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        fresh = [m for m in answer.get("Messages", []) if m["MessageId"] not in seen]
        if not fresh:
            return
        for message in fresh:
            seen.add(message["MessageId"])
            yield _letter(message)


def _letter(message: MessageTypeDef) -> DeadLetter:
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
