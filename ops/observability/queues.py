"""The lesson queue and its dead-letter queue, as SQS and CloudWatch show them."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from ops.aws import metrics
from ops.aws.connection import Connection


class Queue(BaseModel):
    visible: int
    in_flight: int
    delayed: int
    dead: int
    oldest_seconds: float | None = None
    """Age of the oldest message. CloudWatch may be some minutes late; None without a value."""

    @property
    def backlog(self) -> int:
        return self.visible + self.in_flight + self.delayed


def read_queue(aws: Connection) -> Queue:
    """The counts of the lesson queue and of its dead-letter queue, as SQS has them at this moment."""
    foundation = aws.foundation
    visible, in_flight, delayed = _counts(aws, foundation["QueueUrl"])
    dead = sum(_counts(aws, foundation["DlqUrl"]))
    return Queue(visible=visible, in_flight=in_flight, delayed=delayed, dead=dead)


def read_queue_with_age(aws: Connection, now: datetime) -> Queue:
    return read_queue(aws).model_copy(update={"oldest_seconds": _oldest(aws, now)})


def _counts(aws: Connection, url: str) -> tuple[int, int, int]:
    attributes = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        int(attributes["ApproximateNumberOfMessagesDelayed"]),
    )


def _oldest(aws: Connection, now: datetime) -> float | None:
    name = {"QueueName": aws.foundation["QueueName"]}
    metric = metrics.Metric("AWS/SQS", "ApproximateAgeOfOldestMessage", name)
    minute = timedelta(minutes=1)
    points = metrics.read(aws, metric, "Maximum", start=now - 10 * minute, end=now, period=minute)
    return points[-1].value if points else None
