"""`audio_jobs` and `transcripts`: the backend's tables, and the guard that makes the effect exactly once.

The guard is in the database, not in the queue: the transcript's insert and the job's `completed` are one
transaction, made only while the locked job row is not yet completed, and `transcripts.job_id` is unique.
Two workers holding the same message may both compute; the first to commit wins, the other changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pymysql
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ValidationError
from pymysql.constants import CLIENT, CR, ER
from pymysql.cursors import Cursor
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from contracts.jobs import JobStatus
from contracts.keys import Owner, owner_of
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.messages import JobMessage
from whisper_processor.worker.waiting import Tick

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

T = TypeVar("T")

_REFUSED = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR}
_PASSING = {
    CR.CR_CONN_HOST_ERROR,
    CR.CR_CONNECTION_ERROR,
    CR.CR_SERVER_GONE_ERROR,
    CR.CR_SERVER_LOST,
    ER.LOCK_WAIT_TIMEOUT,
    ER.LOCK_DEADLOCK,
    ER.CON_COUNT_ERROR,
    ER.SERVER_SHUTDOWN,
    ER.OPTION_PREVENTS_STATEMENT,  # read only: a failover is under way
    1927,  # MariaDB: connection killed
}
_MAX_ERROR_TEXT = 2000
_PATIENCE_SECONDS = 120.0  # an Aurora failover takes a minute or less
_RESULT_PATIENCE_SECONDS = 900.0  # waiting with a computed transcript is cheaper than computing it again
_NOTE_PATIENCE_SECONDS = 5.0  # for what only tells people how things are


class Credentials(BaseModel):
    """The secret's JSON, in the shape RDS itself writes."""

    host: str
    port: int = 3306
    username: str
    password: str
    dbname: str


class SecretCredentials:
    """Database credentials from Secrets Manager, cached until the database refuses them (rotation)."""

    def __init__(self, client: SecretsManagerClient, secret: str) -> None:
        self._client = client
        self._secret = secret
        self._cached: Credentials | None = None

    def get(self) -> Credentials:
        if self._cached is None:
            try:
                # An answer cut short on its way arrives as an empty one.
                text = self._client.get_secret_value(SecretId=self._secret).get("SecretString", "")
                self._cached = Credentials.model_validate_json(text)
            except (BotoCoreError, ClientError) as error:
                raise TransientError(f"secret {self._secret} cannot be read: {error}") from error
            except ValidationError as error:
                fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
                raise TransientError(f"secret {self._secret} is malformed: {fields}") from None
        return self._cached

    def forget(self) -> None:
        self._cached = None


class Outcome(Enum):
    CLAIMED = auto()
    ALREADY_COMPLETED = auto()
    EXHAUSTED = auto()
    """Every attempt is used up; the job is to be failed."""
    ALREADY_FAILED = auto()
    """It failed after this message was sent, so the message asks for nothing new."""
    HELD = auto()
    """Another worker is at it and shows life: taking the job from it would only begin it again."""


@dataclass(frozen=True)
class Claim:
    outcome: Outcome
    job_id: str
    owner: Owner
    attempt: int
    """Counts from 1."""
    held_seconds: int = 0
    """How long another worker still holds the job, unless it shows life again; for HELD only."""
    reason: str = ""
    """Why it failed, for ALREADY_FAILED only."""


class _Row(NamedTuple):
    job_id: str
    status: str
    attempts: int
    school_id: int | None
    teacher_id: int | None
    worker: str | None
    held_seconds: int | None
    """From now; 0 or less when the lease has lapsed, None when there never was one."""
    ended_at: datetime | None
    """UTC, without saying so, as the column is."""
    error_message: str | None

    @property
    def owner(self) -> Owner:
        return Owner(school_id=self.school_id or 0, teacher_id=self.teacher_id or 0)


_COLUMNS = (
    "SELECT id, status, COALESCE(attempts, 0), school_id, teacher_id, worker,"
    " TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), lease_until), processing_completed_at, error_message FROM audio_jobs "
)


@dataclass(frozen=True)
class Result:
    """What a finished job writes."""

    text: str
    confidence: float
    duration_seconds: float
    model: str
    engine: str
    language: str | None


class JobStore:
    """Used from one thread: it holds one connection and makes a new one when that is lost."""

    def __init__(
        self,
        credentials: SecretCredentials,
        worker: str,
        *,
        ca: Path | None,
        lease_seconds: float,
        patience_seconds: float = _PATIENCE_SECONDS,
        result_patience_seconds: float = _RESULT_PATIENCE_SECONDS,
    ) -> None:
        """`worker` is unique to this process: rows say by it who holds a job. `ca` is the bundle of certificates
        the server must be signed by; None leaves the server unverified.
        `lease_seconds` is for how long a job is this worker's after each sign of life."""
        self._credentials = credentials
        self._worker = worker
        self._ca = ca
        self._lease_seconds = lease_seconds
        self._patience = patience_seconds
        self._result_patience = result_patience_seconds
        self._connection: pymysql.Connection[Cursor] | None = None
        self.on_wait: Tick = lambda: None
        """Called before each new try while the database is away; an exception out of it ends the waiting."""

    def claim(self, message: JobMessage, *, sent_at: datetime, max_attempts: int) -> Claim:
        """Take the job: status `processing`, one more attempt. Makes the row when the backend has not.

        A `failed` job asked for anew, by a message sent after it had failed, starts over with its attempts. The
        time of sending counts, not the number of the delivery: a worker that hung with a first delivery may come
        here after another has failed the job and deleted the message, and nobody would end what it began anew.
        Raises PermanentError when there is no row and the key does not say whose lesson it is.
        """

        def work(cursor: Cursor) -> Claim:
            row = self._find(cursor, message) or self._create(cursor, message)
            job_id, owner, attempts = row.job_id, row.owner, row.attempts
            if row.status == JobStatus.COMPLETED:
                return Claim(Outcome.ALREADY_COMPLETED, job_id, owner, attempts)
            held = row.held_seconds or 0
            if row.status == JobStatus.PROCESSING and row.worker not in {None, self._worker} and held > 0:
                return Claim(Outcome.HELD, job_id, owner, attempts, held)
            if row.status == JobStatus.FAILED:
                if row.ended_at is not None and sent_at <= row.ended_at.replace(tzinfo=UTC):
                    return Claim(Outcome.ALREADY_FAILED, job_id, owner, attempts, reason=row.error_message or "")
                attempts = 0
            if attempts >= max_attempts:
                return Claim(Outcome.EXHAUSTED, job_id, owner, attempts)
            cursor.execute(
                "UPDATE audio_jobs SET status=%s, attempts=%s, worker=%s, progress=0, error_message=NULL,"
                " lease_until=UTC_TIMESTAMP() + INTERVAL %s SECOND,"
                " processing_started_at=UTC_TIMESTAMP(), processing_completed_at=NULL WHERE id=%s",
                (JobStatus.PROCESSING, attempts + 1, self._worker, self._lease_seconds, job_id),
            )
            return Claim(Outcome.CLAIMED, job_id, owner, attempts + 1)

        return self._transaction(work)

    def progress(self, job_id: str, percent: int) -> bool:
        """Write how far the job is, a sign of life; False when it is no longer this worker's.

        Progress is for people: a database that is away for a moment does not hold up the lesson.
        """
        try:
            changed = self._transaction(
                lambda cursor: cursor.execute(
                    "UPDATE audio_jobs SET progress=%s, lease_until=UTC_TIMESTAMP() + INTERVAL %s SECOND"
                    " WHERE id=%s AND worker=%s AND status=%s",
                    (percent, self._lease_seconds, job_id, self._worker, JobStatus.PROCESSING),
                ),
                patience=0,
            )
        except TransientError:
            return True
        return changed > 0

    def complete(self, job_id: str, owner: Owner, result: Result) -> bool:
        """Write transcript and `completed` in one transaction; False when another worker already had."""

        def work(cursor: Cursor) -> bool:
            cursor.execute("SELECT status FROM audio_jobs WHERE id=%s FOR UPDATE", (job_id,))
            row = cursor.fetchone()
            if row is None or row[0] == JobStatus.COMPLETED:
                return False
            cursor.execute(
                "INSERT INTO transcripts (job_id, teacher_id, school_id, transcript_text, word_count,"
                " confidence_score, created_at) VALUES (%s, %s, %s, %s, %s, %s, UTC_TIMESTAMP())"
                " ON DUPLICATE KEY UPDATE transcript_text=VALUES(transcript_text),"
                " word_count=VALUES(word_count), confidence_score=VALUES(confidence_score)",
                (
                    job_id,
                    owner.teacher_id,
                    owner.school_id,
                    result.text,
                    len(result.text.split()),
                    f"{result.confidence:.2f}",
                ),
            )
            cursor.execute(
                "UPDATE audio_jobs SET status=%s, progress=100, processing_completed_at=UTC_TIMESTAMP(),"
                " error_message=NULL, model=%s, engine=%s, language=%s, duration_seconds=%s, worker=%s"
                " WHERE id=%s",
                (
                    JobStatus.COMPLETED,
                    result.model,
                    result.engine,
                    result.language,
                    round(result.duration_seconds),
                    self._worker,
                    job_id,
                ),
            )
            return True

        return self._transaction(work, self._result_patience)

    def fail(self, job_id: str, reason: str) -> bool:
        """Mark the job failed; False when it is completed, in another worker's hands, or not there."""
        changed = self._transaction(
            lambda cursor: cursor.execute(
                "UPDATE audio_jobs SET status=%s, error_message=%s, processing_completed_at=UTC_TIMESTAMP()"
                " WHERE id=%s AND status<>%s AND (worker=%s OR worker IS NULL OR status<>%s)",
                (
                    JobStatus.FAILED,
                    reason[:_MAX_ERROR_TEXT],
                    job_id,
                    JobStatus.COMPLETED,
                    self._worker,
                    JobStatus.PROCESSING,
                ),
            )
        )
        return changed > 0

    def requeue(self, job_id: str, *, attempt_counts: bool, reason: str | None = None) -> bool:
        """Back to `queued`: after a transient error the attempt counts, when the worker must leave it does not.

        False when the job is no longer this worker's.
        """
        changed = self._transaction(
            lambda cursor: cursor.execute(
                "UPDATE audio_jobs SET status=%s, progress=0, error_message=%s, attempts=GREATEST(attempts-%s, 0)"
                " WHERE id=%s AND status=%s AND worker=%s",
                (
                    JobStatus.QUEUED,
                    reason[:_MAX_ERROR_TEXT] if reason else None,
                    0 if attempt_counts else 1,
                    job_id,
                    JobStatus.PROCESSING,
                    self._worker,
                ),
            ),
            _NOTE_PATIENCE_SECONDS,
        )
        return changed > 0

    def close(self) -> None:
        if self._connection is not None:
            self._disconnect()

    @staticmethod
    def _find(cursor: Cursor, message: JobMessage) -> _Row | None:
        if message.jobId is None:  # an S3 notification: the backend's row for this key, when there is one
            cursor.execute(_COLUMNS + "WHERE s3_key=%s ORDER BY id LIMIT 1 FOR UPDATE", (message.s3Key,))
            if row := cursor.fetchone():
                return _Row(*row)
        cursor.execute(_COLUMNS + "WHERE id=%s FOR UPDATE", (message.job_id,))
        row = cursor.fetchone()
        return _Row(*row) if row else None

    @staticmethod
    def _create(cursor: Cursor, message: JobMessage) -> _Row:
        owner = owner_of(message.s3Key)
        if owner is None:
            raise PermanentError(
                f"There is no job {message.job_id}, and {message.s3Key!r} names no school and teacher."
            )
        cursor.execute(
            "INSERT INTO audio_jobs (id, teacher_id, school_id, status, s3_key, attempts, progress)"
            " VALUES (%s, %s, %s, %s, %s, 0, 0) ON DUPLICATE KEY UPDATE id=id",
            (message.job_id, owner.teacher_id, owner.school_id, JobStatus.QUEUED, message.s3Key),
        )
        row = JobStore._find(cursor, message)
        if row is None:
            raise TransientError(f"job row {message.job_id} could not be made")
        return row

    def _transaction(self, work: Callable[[Cursor], T], patience: float | None = None) -> T:
        """Run `work` in one transaction, again on a new connection while the database is away.

        Safe to run again: a transaction whose commit was not confirmed either left nothing or is found done.
        """
        attempts = Retrying(
            retry=retry_if_exception(_is_passing),
            stop=stop_after_delay(self._patience if patience is None else patience),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            before_sleep=self._before_sleep,
            reraise=True,
        )
        try:
            result: T = attempts(self._once, work)
            return result
        except (pymysql.err.DataError, pymysql.err.IntegrityError) as error:
            raise PermanentError(f"The database does not take the values of this job: {error.args[-1]}") from error
        except pymysql.MySQLError as error:
            raise TransientError(f"database: {error}") from error

    def _before_sleep(self, _state: RetryCallState) -> None:
        self.on_wait()

    def _once(self, work: Callable[[Cursor], T]) -> T:
        try:
            connection = self._connected()
            with connection.cursor() as cursor:
                connection.begin()
                result = work(cursor)
                connection.commit()
                return result
        except BaseException:
            self._disconnect()
            raise

    def _connected(self) -> pymysql.Connection[Cursor]:
        if self._connection is None:
            credentials = self._credentials.get()
            try:
                self._connection = pymysql.connect(
                    host=credentials.host,
                    port=credentials.port,
                    user=credentials.username,
                    password=credentials.password,
                    database=credentials.dbname,
                    charset="utf8mb4",
                    autocommit=False,
                    connect_timeout=10,
                    read_timeout=30,
                    write_timeout=30,
                    client_flag=CLIENT.FOUND_ROWS,
                    ssl_ca=str(self._ca) if self._ca else None,
                    ssl_verify_identity=True if self._ca else None,
                )
            except pymysql.OperationalError as error:
                if error.args[0] in _REFUSED:
                    self._credentials.forget()
                raise
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and connection.open:
            try:
                connection.close()
            except pymysql.MySQLError:  # already gone
                return


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, pymysql.err.InterfaceError):
        return True
    return isinstance(error, pymysql.MySQLError) and bool(error.args) and error.args[0] in _PASSING | _REFUSED
