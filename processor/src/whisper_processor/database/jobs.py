"""`audio_jobs` and `transcripts`: the backend's tables, and the guard that makes the effect exactly once.

The guard is in the database, not in the queue. One transaction inserts the transcript and sets the job to
`completed`, and it does so only while the locked job row is not completed yet; `transcripts.job_id` is unique.
Two workers with the same message may both transcribe. The first to commit wins; the other changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import NamedTuple

from pymysql.cursors import Cursor

from contracts.jobs import JobStatus
from contracts.keys import Owner, owner_of
from whisper_processor.database.transactions import Database
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.messages import JobMessage

_MAX_ERROR_TEXT = 2000
_RESULT_PATIENCE_SECONDS = 900.0  # waiting with a finished transcript is cheaper than transcribing again
_REQUEUE_PATIENCE_SECONDS = 5.0  # the row only informs people; the message comes back anyway


class Outcome(Enum):
    CLAIMED = auto()
    ALREADY_COMPLETED = auto()
    EXHAUSTED = auto()
    """No attempts are left: the job must be failed."""
    ALREADY_FAILED = auto()
    """The job failed after this message was sent, so the message requests nothing new."""
    HELD = auto()
    """Another worker is alive and working on it. Taking the job over would only start it again."""


@dataclass(frozen=True)
class Claim:
    outcome: Outcome
    job_id: str
    owner: Owner
    attempt: int
    """Counts from 1."""
    held_seconds: int = 0
    """HELD only: when the other worker's lease on the job ends, unless it renews it."""
    reason: str = ""
    """ALREADY_FAILED only: why it failed."""


class JobRow(NamedTuple):
    """What a claim depends on."""

    job_id: str
    status: str
    attempts: int
    school_id: int | None
    teacher_id: int | None
    worker: str | None
    held_seconds: int | None
    """How much of the lease is left; 0 or less when it has expired, None when there never was one."""
    ended_at: datetime | None
    """UTC without a time zone, like the column."""
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


def decide_claim(row: JobRow, worker: str, *, sent_at: datetime, max_attempts: int) -> Claim:
    """What a worker that received a message may do with the message's job.

    A message sent after the job had failed is a new request, and starts again with the first attempt. What counts
    is the time of sending, not the delivery count. A worker that hung with a first delivery may come back after
    another worker has failed the job and deleted the message; nothing would end the job it then started again.
    """
    job_id, owner, attempts = row.job_id, row.owner, row.attempts
    if row.status == JobStatus.COMPLETED:
        return Claim(Outcome.ALREADY_COMPLETED, job_id, owner, attempts)
    held = row.held_seconds or 0
    if row.status == JobStatus.PROCESSING and row.worker not in {None, worker} and held > 0:
        return Claim(Outcome.HELD, job_id, owner, attempts, held)
    if row.status == JobStatus.FAILED:
        if row.ended_at is not None and sent_at <= row.ended_at.replace(tzinfo=UTC):
            return Claim(Outcome.ALREADY_FAILED, job_id, owner, attempts, reason=row.error_message or "")
        attempts = 0
    if attempts >= max_attempts:
        return Claim(Outcome.EXHAUSTED, job_id, owner, attempts)
    return Claim(Outcome.CLAIMED, job_id, owner, attempts + 1)


class JobStore:
    """Use it from one thread, like its database."""

    def __init__(
        self,
        database: Database,
        worker: str,
        *,
        lease_seconds: float,
        result_patience_seconds: float = _RESULT_PATIENCE_SECONDS,
    ) -> None:
        """`worker` is unique to this process: a row names the worker that holds the job. A claim holds the job
        for `lease_seconds`, and each progress report renews that."""
        self._database = database
        self._worker = worker
        self._lease_seconds = lease_seconds
        self._result_patience = result_patience_seconds

    def claim(self, message: JobMessage, *, sent_at: datetime, max_attempts: int) -> Claim:
        """Take the job: status `processing`, one more attempt. Creates the row when the backend has not.

        See `decide_claim`. Raises PermanentError when there is no row and the key names no school and teacher.
        """

        def work(cursor: Cursor) -> Claim:
            row = self._find(cursor, message) or self._create(cursor, message)
            claim = decide_claim(row, self._worker, sent_at=sent_at, max_attempts=max_attempts)
            if claim.outcome is Outcome.CLAIMED:
                cursor.execute(
                    "UPDATE audio_jobs SET status=%s, attempts=%s, worker=%s, progress=0, error_message=NULL,"
                    " lease_until=UTC_TIMESTAMP() + INTERVAL %s SECOND,"
                    " processing_started_at=UTC_TIMESTAMP(), processing_completed_at=NULL WHERE id=%s",
                    (JobStatus.PROCESSING, claim.attempt, self._worker, self._lease_seconds, claim.job_id),
                )
            return claim

        return self._database.transaction(work)

    def progress(self, job_id: str, percent: int) -> bool:
        """Write the progress and renew the job's lease; False when the job is no longer this worker's.

        Progress is for people: a database that is briefly unavailable does not hold up the lesson.
        """
        try:
            changed = self._database.transaction(
                lambda cursor: cursor.execute(
                    "UPDATE audio_jobs SET progress=%s, lease_until=UTC_TIMESTAMP() + INTERVAL %s SECOND"
                    " WHERE id=%s AND worker=%s AND status=%s",
                    (percent, self._lease_seconds, job_id, self._worker, JobStatus.PROCESSING),
                ),
                patience_seconds=0,
            )
        except TransientError:
            return True
        return changed > 0

    def complete(self, job_id: str, owner: Owner, result: Result) -> bool:
        """Write the transcript and `completed` in one transaction; False when another worker already has."""

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

        return self._database.transaction(work, self._result_patience)

    def fail(self, job_id: str, reason: str) -> bool:
        """Set the job to `failed`; False when it is completed, held by another worker, or does not exist."""
        changed = self._database.transaction(
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
        """Set the job back to `queued`. The attempt counts after a transient error, and not after a drain.

        False when the job is no longer this worker's.
        """
        changed = self._database.transaction(
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
            _REQUEUE_PATIENCE_SECONDS,
        )
        return changed > 0

    def close(self) -> None:
        self._database.close()

    @staticmethod
    def _find(cursor: Cursor, message: JobMessage) -> JobRow | None:
        if message.jobId is None:  # an S3 notification: the backend's row for this key, if there is one
            cursor.execute(_COLUMNS + "WHERE s3_key=%s ORDER BY id LIMIT 1 FOR UPDATE", (message.s3Key,))
            if row := cursor.fetchone():
                return JobRow(*row)
        cursor.execute(_COLUMNS + "WHERE id=%s FOR UPDATE", (message.job_id,))
        row = cursor.fetchone()
        return JobRow(*row) if row else None

    @staticmethod
    def _create(cursor: Cursor, message: JobMessage) -> JobRow:
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
