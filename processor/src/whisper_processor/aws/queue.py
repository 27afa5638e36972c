"""The lesson queue: receive, extend the lease, give back, delete, move to the dead-letter queue."""

from __future__ import annotations

import contextvars
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_LEASE_ENDED = {"InvalidParameterValue", "MessageNotInflight", "ReceiptHandleIsInvalid"}
_CUT_BODY = 100_000


@dataclass(frozen=True)
class Delivery:
    """One delivery of a message. Each delivery of a message has its own receipt handle."""

    message_id: str
    receipt: str
    body: str
    sent_at: datetime
    receive_count: int


class LessonQueue:
    def __init__(self, client: SQSClient, queue_url: str, dlq_url: str, visibility_timeout: int) -> None:
        self._client = client
        self._url = queue_url
        self._dlq_url = dlq_url
        self.visibility_timeout = visibility_timeout

    def receive(self, wait_seconds: int) -> Delivery | None:
        """Long-poll once; None when nothing came."""
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=self.visibility_timeout,
            MessageSystemAttributeNames=["SentTimestamp", "ApproximateReceiveCount"],
        )
        for message in answer.get("Messages", []):
            attributes = message.get("Attributes", {})
            return Delivery(
                message_id=message["MessageId"],
                receipt=message["ReceiptHandle"],
                body=message["Body"],
                sent_at=datetime.fromtimestamp(int(attributes.get("SentTimestamp", "0")) / 1000, UTC),
                receive_count=int(attributes.get("ApproximateReceiveCount", "1")),
            )
        return None

    def extend(self, delivery: Delivery, seconds: int) -> bool:
        """Keep the message invisible for `seconds` from now (0: give it back); False when the lease expired."""
        try:
            self._client.change_message_visibility(
                QueueUrl=self._url, ReceiptHandle=delivery.receipt, VisibilityTimeout=seconds
            )
        except ClientError as error:
            if _code(error) in _LEASE_ENDED:
                return False
            raise
        return True

    def delete(self, delivery: Delivery) -> None:
        self._client.delete_message(QueueUrl=self._url, ReceiptHandle=delivery.receipt)

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Move the message to the dead-letter queue. A crash between the two calls only duplicates it there."""
        try:
            self._send_dead(delivery, delivery.body, reason)
        except ClientError as error:
            # The reason counts towards SQS's size limit, so the largest bodies are cut.
            if _code(error) != "InvalidParameterValue" or len(delivery.body) <= _CUT_BODY:
                raise
            self._send_dead(delivery, delivery.body[:_CUT_BODY], reason)
        self.delete(delivery)

    def most_deliveries(self) -> int | None:
        """The redrive policy's maxReceiveCount; None when SQS never moves a message to the dead-letter queue."""
        answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
        policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", "{}"))
        return int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None

    def _send_dead(self, delivery: Delivery, body: str, reason: str) -> None:
        self._client.send_message(
            QueueUrl=self._dlq_url,
            MessageBody=body,
            MessageAttributes={
                "Reason": {"DataType": "String", "StringValue": _attribute_text(reason)},
                "FirstSent": {"DataType": "String", "StringValue": delivery.sent_at.isoformat()},
            },
        )


class Lease:
    """Keeps a delivery in flight for as long as the work takes: a thread extends its visibility timeout."""

    def __init__(
        self,
        queue: LessonQueue,
        delivery: Delivery,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._queue = queue
        self.delivery = delivery
        self._on_error = on_error
        self._interval = queue.visibility_timeout / 3
        self._ended = threading.Event()
        # With the caller's context, so that the thread's log lines carry the job's id.
        beat = partial(contextvars.copy_context().run, self._beat)
        self._thread = threading.Thread(target=beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                if not self._queue.extend(self.delivery, self._queue.visibility_timeout):
                    return  # the worker learns from the job's row, not from SQS, who has the job now
            except (BotoCoreError, ClientError) as error:  # the next beat retries before the lease expires
                self._on_error(error)

    def end(self) -> None:
        """Stop extending. The caller's next call decides about the message."""
        self._ended.set()
        self._thread.join()

    def give_back(self, delay_seconds: int = 0) -> None:
        """Return the message to the queue, visible after `delay_seconds`."""
        self.end()
        self._queue.extend(self.delivery, delay_seconds)

    def delete(self) -> None:
        self.end()
        self._queue.delete(self.delivery)

    def dead_letter(self, reason: str) -> None:
        self.end()
        self._queue.dead_letter(self.delivery, reason)


def _code(error: ClientError) -> str:
    """The error's code without the prefix that SQS's JSON protocol adds."""
    return error.response["Error"]["Code"].rsplit(".", 1)[-1]


def _attribute_text(text: str) -> str:
    """SQS allows only XML 1.0 characters in an attribute."""
    return json.dumps(text)[1:-1][:1000] or "-"
