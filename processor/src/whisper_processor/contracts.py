"""What this project shares with the backend, the autoscaler and the operator. One home for each name."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from whisper_processor.errors import PermanentError

METRICS_NAMESPACE = "ClassReflect/Whisper"
PARAMETER_PREFIX = "/classreflect/whisper/config"
"""Settings of the appliance in Parameter Store, one parameter each, named like the environment variable."""
WANTED_PARAMETER = "/classreflect/whisper/processor/wanted"
"""Parameter that names the processor release the appliance should run; a `Wanted` in JSON."""
DATABASE_SECRET = "classreflect/database/credentials"  # noqa: S105 - the secret's name
PROCESSOR_LOG_GROUP = "/classreflect/whisper/processor"

ROLE_TAG = "classreflect:role"
ROLE_PROCESSOR = "whisper-processor"
HOLD_TAG = "classreflect:hold"
HEARTBEAT_TAG = "classreflect:heartbeat"
PROCESSOR_TAG = "classreflect:processor"
"""The release of the processor that runs on the instance."""

GROUP_TAG = "aws:autoscaling:groupName"
"""EC2 Auto Scaling's own: which group the instance belongs to. Without it the machine is one alone."""
DRAIN_HOOK = "drain"
"""The group's lifecycle hook: an instance that is to end waits for its worker to complete it."""
DRAIN_HOOK_SECONDS = 300
"""At most so long."""

AUDIO_PREFIX = "audio-files/"
MODELS_PREFIX = "models/"
TRANSCRIPTS_PREFIX = "transcripts/"
RELEASES_PREFIX = "scripts/releases/"
WHEELHOUSES_PREFIX = "scripts/wheelhouses/"
UPDATE_FAILED_METRIC = "UpdateFailed"
"""One for each release that an appliance could not install."""


class Task(StrEnum):
    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class EngineName(StrEnum):
    FASTER_WHISPER = "faster-whisper"
    OPENVINO = "openvino"
    OPENAI_WHISPER = "openai-whisper"


class JobStatus(StrEnum):
    """`audio_jobs.status`, the backend's enumeration."""

    PENDING = "pending"
    UPLOADING = "uploading"
    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class MalformedMessage(PermanentError):
    """A queue message that cannot be worked on; `job_id` is the job it names all the same."""

    def __init__(self, text: str, job_id: str | None = None) -> None:
        super().__init__(text)
        self.job_id = job_id


_MAX_JOB_ID = 36
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}$")]


class JobMessage(BaseModel):
    """A queue message. Unknown keys are ignored: the backend may add what it likes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    jobId: Annotated[str, StringConstraints(min_length=1, max_length=_MAX_JOB_ID)] | None = None  # noqa: N815
    """None for a raw S3 notification: the job is then found, or made, by its key."""
    s3Key: Annotated[str, StringConstraints(min_length=1, max_length=255)]  # noqa: N815
    model: ModelName | None = None
    engine: EngineName | None = None
    language: Language | None = None
    task: Task = Task.TRANSCRIBE
    wordTimestamps: bool = False  # noqa: N815

    @property
    def job_id(self) -> str:
        """The message's id, else one derived from the key, the same for each delivery."""
        return self.jobId or str(uuid.uuid5(uuid.NAMESPACE_URL, f"s3:{self.s3Key}"))


class Owner(BaseModel):
    """Whose lesson a key names."""

    model_config = ConfigDict(frozen=True)

    school_id: int
    teacher_id: int


_KEY_LAYOUT = re.compile(rf"^{AUDIO_PREFIX}(\d{{1,9}})/(\d{{1,9}})/.+$", re.ASCII | re.DOTALL)


def owner_of(s3_key: str) -> Owner | None:
    """School and teacher of `audio-files/<school_id>/<teacher_id>/<name>`; None for any other key."""
    match = _KEY_LAYOUT.match(s3_key)
    return Owner(school_id=int(match[1]), teacher_id=int(match[2])) if match else None


class Hold(BaseModel):
    """A person keeps autoscaler and worker from starting and stopping the instance."""

    model_config = ConfigDict(frozen=True)

    by: str
    until: datetime | None
    """None when the tag cannot be read: someone meant a hold, so it is honoured until it is removed."""

    def active_at(self, now: datetime) -> bool:
        return self.until is None or now < self.until


_HOLD = re.compile(r"by=(?P<by>.+);until=(?P<until>[^;]+)")


def parse_hold(text: str | None) -> Hold | None:
    """What the hold tag says; None without one."""
    if text is None:
        return None
    match = _HOLD.fullmatch(text)
    try:
        until = datetime.fromisoformat(match["until"]) if match else None
    except ValueError:
        until = None
    return Hold(by=match["by"], until=until) if match and until and until.tzinfo else Hold(by=text, until=None)


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ReleaseName = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+]{0,39}-[0-9a-f]{12}$")]
"""`<version>-<first twelve digits of the archive's sha256>`."""


class StoredFile(BaseModel):
    """An object of the bucket, and the only bytes it may have."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: Sha256


class Release(BaseModel):
    """What can be installed on an appliance: an archive, and the packages it stands on."""

    model_config = ConfigDict(frozen=True)

    name: ReleaseName
    version: str
    archive: StoredFile
    wheelhouse: StoredFile

    @model_validator(mode="after")
    def _named_by_content(self) -> Self:
        if self.name != release_name(self.version, self.archive.sha256):
            raise ValueError("a release is named by its version and its archive's sha256")
        return self


def release_name(version: str, sha256: str) -> str:
    return f"{version}-{sha256[:12]}"


class ReleaseManifest(BaseModel):
    """`release.json` in a release's archive."""

    model_config = ConfigDict(frozen=True)

    version: str
    wheel: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+\-]+\.whl$")]
    wheel_sha256: Sha256
    wheelhouse_sha256: Sha256


class Wanted(BaseModel):
    """The pointer: which release every appliance should run, and who wished so."""

    model_config = ConfigDict(frozen=True)

    release: Release
    set_by: str
    set_at: datetime
    previous: ReleaseName | None = None
    """What was wanted before; a rollback without a name goes there."""


class UpdateResult(StrEnum):
    INSTALLED = "installed"
    UNCHANGED = "unchanged"
    """The wanted release runs already, or none is wanted."""
    SKIPPED = "skipped"
    """This very wish failed on this machine before; another deploy tries again."""
    UNREACHABLE = "unreachable"
    """Parameter Store or the bucket did not answer; the machine goes on with what it has."""
    REFUSED = "refused"
    """The bytes in the bucket are not those the pointer names."""
    FAILED = "failed"
    """It could not be installed or did not pass its check; the release before it runs."""


class UpdateReport(BaseModel):
    """How an update on an appliance ended: a line in its log, and the answer to the operator."""

    model_config = ConfigDict(frozen=True)

    result: UpdateResult
    reason: str
    wanted: str | None
    current: str | None
    """The release the machine runs now."""
    previous: str | None
    seconds: float
    at: datetime


def audio_key(owner: Owner, job_id: str, name: str) -> str:
    """The key the backend gives an upload; `name` is only for people, the id makes it unique."""
    return f"{AUDIO_PREFIX}{owner.school_id}/{owner.teacher_id}/{job_id}-{name}"


def transcript_key(owner: Owner, job_id: str, suffix: str) -> str:
    """Where an output lies, e.g. `transcripts/1/2/<job>.vtt`."""
    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", job_id)
    return f"{TRANSCRIPTS_PREFIX}{owner.school_id}/{owner.teacher_id}/{safe}.{suffix}"


def parse_message(body: str) -> JobMessage | None:
    """Read a queue message or a raw S3 `ObjectCreated` notification.

    Returns None for the test event S3 sends when a notification is configured.
    Raises MalformedMessage, saying what is wrong, for anything else.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:  # not JSON, or a number of more digits than Python reads
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
    """The job's id, where that much of the message can be used."""
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
    """False for NUL and lone surrogates, which neither S3 nor MySQL can hold."""
    return "\x00" not in text and not any(0xD800 <= ord(char) <= 0xDFFF for char in text)
