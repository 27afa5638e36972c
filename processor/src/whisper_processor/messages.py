"""The queue message: its schema, and the parsing of messages and S3 notifications."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Any
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from contracts.jobs import EngineName, Task
from whisper_processor.errors import PermanentError


class MalformedMessage(PermanentError):
    """A queue message that cannot be processed; `job_id` is the job it names, if it names one."""

    def __init__(self, text: str, job_id: str | None = None) -> None:
        super().__init__(text)
        self.job_id = job_id


_MAX_JOB_ID = 36
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class JobMessage(BaseModel):
    """A queue message. Unknown keys are ignored, so the backend may add more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobId: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_JOB_ID)] | None = None  # noqa: N815
    """None for a raw S3 notification: the job is then found, or created, by its key."""
    s3Key: Annotated[str, StringConstraints(min_length=1, max_length=255)]  # noqa: N815
    model: ModelName | None = None
    engine: EngineName | None = None
    language: Language | None = None
    task: Task = Task.TRANSCRIBE
    wordTimestamps: bool = False  # noqa: N815

    @property
    def job_id(self) -> str:
        """The message's id, or one derived from the key, the same for each delivery."""
        return self.jobId or str(uuid.uuid5(uuid.NAMESPACE_URL, f"s3:{self.s3Key}"))


def parse_message(body: str) -> JobMessage | None:
    """Parse a queue message or a raw S3 `ObjectCreated` notification.

    Returns None for the test event that S3 sends when a notification is configured.
    Raises MalformedMessage, with the reason, for anything else.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # not JSON, or a number with more digits than Python parses
        raise MalformedMessage(f"the message is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise MalformedMessage("the message is not a JSON object")
    if document.get("Event") == "s3:TestEvent":
        return None
    if "Records" in document:
        document = _from_notification(document["Records"])
    elif not document.get("jobId"):
        raise MalformedMessage("the message has no jobId")
    try:
        message = JobMessage.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise MalformedMessage(f"the message is malformed: {problems}", _named_job(document)) from error
    if any(not _storable(text) for text in (message.job_id, message.s3Key)):
        text = "the message is malformed: a name holds characters that cannot be stored"
        raise MalformedMessage(text, _named_job(document))
    return message


def _named_job(document: dict[str, Any]) -> str | None:
    """The job's id, if that part of the message is usable."""
    match document.get("jobId"):
        case str(job_id) if len(job_id) <= _MAX_JOB_ID and _storable(job_id):
            return job_id
    return None


def _from_notification(records: Any) -> dict[str, str]:
    match records:
        case [{"eventName": str(event), "s3": {"object": {"key": str(key)}}}] if "ObjectCreated" in event:
            return {"s3Key": unquote_plus(key)}  # S3 URL-encodes keys in notifications
    raise MalformedMessage("the notification is not one S3 ObjectCreated record")


def _storable(text: str) -> bool:
    """False for NUL and lone surrogates, which neither S3 nor MySQL can store."""
    return "\x00" not in text and not any(0xD800 <= ord(char) <= 0xDFFF for char in text)
