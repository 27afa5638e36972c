"""The dead-letter queue: see what lies there and why, and give it another chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.connection import Connection
from whisper_processor.contracts import JobStatus, MalformedMessage, parse_message

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_LOOK_SECONDS = 30


@dataclass(frozen=True)
class DeadLetter:
    receipt: str
    body: str
    reason: str
    job_id: str | None
    """None when the message cannot be read."""


def look(cloud: Connection, limit: int) -> list[DeadLetter]:
    """Up to `limit` dead letters; each is hidden while we look and visible again at once afterwards."""
    letters = list(_receive(cloud, limit))
    for letter in letters:
        cloud.sqs.change_message_visibility(
            QueueUrl=cloud.foundation["DlqUrl"], ReceiptHandle=letter.receipt, VisibilityTimeout=0
        )
    return letters


def redrive(cloud: Connection, limit: int, *, dry_run: bool, say: Callable[[str], None]) -> int:
    """Send up to `limit` readable dead letters to the lesson queue again; returns how many.

    In this order: row back to `queued` with its attempts at zero, message sent, dead letter deleted. A crash in
    between sends a lesson twice, which the worker's guard makes harmless; none is lost. Messages that cannot be
    read stay where they are.
    """
    letters = look(cloud, limit) if dry_run else list(_receive(cloud, limit))
    moved = 0
    for letter in letters:
        if letter.job_id is None:
            say(f"left: {letter.reason}")
            continue
        moved += 1
        say(f"{'would go' if dry_run else 'goes'} back: job {letter.job_id} ({letter.reason})")
        if dry_run:
            continue
        with cloud.database() as database, database.cursor() as cursor:
            cursor.execute(
                "UPDATE audio_jobs SET status=%s, attempts=0, error_message=NULL WHERE id=%s AND status=%s",
                (JobStatus.QUEUED, letter.job_id, JobStatus.FAILED),
            )
        cloud.sqs.send_message(QueueUrl=cloud.foundation["QueueUrl"], MessageBody=letter.body)
        cloud.sqs.delete_message(QueueUrl=cloud.foundation["DlqUrl"], ReceiptHandle=letter.receipt)
    return moved


def _receive(cloud: Connection, limit: int) -> Iterator[DeadLetter]:
    seen: set[str] = set()
    while len(seen) < limit:
        answer = cloud.sqs.receive_message(
            QueueUrl=cloud.foundation["DlqUrl"],
            MaxNumberOfMessages=min(10, limit - len(seen)),
            VisibilityTimeout=_LOOK_SECONDS,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
        )
        fresh = [m for m in answer.get("Messages", []) if m["MessageId"] not in seen]
        if not fresh:
            return
        for message in fresh:
            seen.add(message["MessageId"])
            yield _letter(message)


def _letter(message: MessageTypeDef) -> DeadLetter:
    attributes = message.get("MessageAttributes")
    reason = attributes["Reason"]["StringValue"] if attributes and "Reason" in attributes else "received too often"
    try:
        parsed = parse_message(message["Body"])
    except MalformedMessage as error:
        return DeadLetter(message["ReceiptHandle"], message["Body"], str(error), None)
    return DeadLetter(message["ReceiptHandle"], message["Body"], reason, parsed.job_id if parsed else None)
