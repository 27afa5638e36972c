"""The lesson queue: receive, lease, release, delete."""

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
    """One delivery of a message; another delivery of the same message has another receipt."""

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
        """Hold the message for `seconds` from now (0 gives it back); False when the lease had ended."""
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

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Move the message to the dead-letter queue. A crash between the two calls doubles it there only."""
        try:
            self._send_dead(delivery, delivery.body, reason)
        except ClientError as error:
            # The reason counts against SQS's limit for a message too, so the largest ones are cut.
            if _code(error) != "InvalidParameterValue" or len(delivery.body) <= _CUT_BODY:
                raise
            self._send_dead(delivery, delivery.body[:_CUT_BODY], reason)
        self.delete(delivery)

    def most_deliveries(self) -> int | None:
        """After so many deliveries SQS itself moves a message to a dead-letter queue; None when it never does."""
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
    """Keeps a delivery invisible for as long as the work takes; a thread extends it, however long that is."""

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
        # With the caller's context, so that what the thread logs carries the job's id too.
        beat = partial(contextvars.copy_context().run, self._beat)
        self._thread = threading.Thread(target=beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._interval):
            try:
                if not self._queue.extend(self.delivery, self._queue.visibility_timeout):
                    return  # whoever holds the message now is told by the job's row, not by SQS
            except (BotoCoreError, ClientError) as error:  # the next beat tries again within the lease
                self._on_error(error)

    def end(self) -> None:
        """Stop extending; what happens to the message is the caller's next call."""
        self._ended.set()
        self._thread.join()

    def release(self, delay_seconds: int = 0) -> None:
        """Stop extending and give the message back after `delay_seconds`."""
        self.end()
        self._queue.extend(self.delivery, delay_seconds)

    def delete(self) -> None:
        self.end()
        self._queue.delete(self.delivery)

    def bury(self, reason: str) -> None:
        self.end()
        self._queue.bury(self.delivery, reason)


def _code(error: ClientError) -> str:
    """The error's code without the service's prefix, which the JSON protocol adds."""
    return error.response["Error"]["Code"].rsplit(".", 1)[-1]


def _attribute_text(text: str) -> str:
    """SQS allows only the characters of XML 1.0 in an attribute."""
    return json.dumps(text)[1:-1][:1000] or "-"
