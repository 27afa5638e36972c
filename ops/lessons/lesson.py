"""Lessons as the backend and its users see them: submit one, watch it, read its transcript."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import ER
from pymysql.cursors import DictCursor

from contracts.jobs import JobStatus
from contracts.keys import Owner, audio_key
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.waiting import TooLong, wait_for
from whisper_processor.audio.media import probe
from whisper_processor.errors import PermanentError
from whisper_processor.messages import JobMessage

Transferred = Callable[[int], None]
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    id: str
    status: JobStatus
    progress: int
    attempts: int
    school_id: int | None
    teacher_id: int | None
    s3_key: str
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: int | None
    error_message: str | None

    @property
    def ended(self) -> bool:
        return self.status in {JobStatus.COMPLETED, JobStatus.FAILED}


@dataclass(frozen=True)
class Transcript:
    text: str
    word_count: int
    confidence: float


def submit(
    aws: Connection,
    file: Path,
    owner: Owner,
    request: dict[str, Any],
    transferred: Transferred = lambda _bytes: None,
) -> str:
    """Do what the backend does: upload the file, insert the job, send the message; returns the job's id.

    `request` holds the message's optional keys. Raises OpsError when the file is missing or has no sound.
    """
    if not file.is_file():
        raise OpsError(f"no such file: {file}")
    try:
        probe(file)
    except PermanentError as error:
        raise OpsError(f"{file} cannot be transcribed: {error}") from error
    job_id = str(uuid.uuid4())
    key = audio_key(owner, job_id, file.name)[:255]
    message = JobMessage.model_validate({"jobId": job_id, "s3Key": key, **request})
    bucket, queue = aws.foundation["BucketName"], aws.foundation["QueueUrl"]
    with _tables(aws) as database, database.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audio_jobs (id, teacher_id, school_id, status, s3_key) VALUES (%s, %s, %s, %s, %s)",
            (job_id, owner.teacher_id, owner.school_id, JobStatus.UPLOADING, key),
        )
        aws.s3.upload_file(str(file), bucket, key, Callback=transferred)
        cursor.execute("UPDATE audio_jobs SET status=%s WHERE id=%s", (JobStatus.QUEUED, job_id))
    body = message.model_dump(mode="json", exclude_defaults=True)
    aws.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(body))
    return job_id


def find_job(aws: Connection, job_id: str) -> Job:
    """The job with this id, or the latest for `last`. Raises OpsError when there is none."""
    where, values = ("id=%s", (job_id,)) if job_id != "last" else ("TRUE", ())
    found = _select(aws, where, values, 1)
    if not found:
        raise OpsError("there are no jobs yet" if job_id == "last" else f"there is no job {job_id}")
    return found[0]


def list_jobs(aws: Connection, limit: int) -> list[Job]:
    return _select(aws, "TRUE", (), limit)


def transcript(aws: Connection, job_id: str) -> Transcript:
    job = find_job(aws, job_id)
    with _tables(aws) as database, database.cursor() as cursor:
        cursor.execute(
            "SELECT transcript_text, word_count, confidence_score FROM transcripts WHERE job_id=%s", (job.id,)
        )
        row = cursor.fetchone()
    if row is None:
        detail = f": {job.error_message}" if job.error_message else ""
        raise OpsError(f"job {job.id} has no transcript, it is {job.status}{detail}")
    return Transcript(row["transcript_text"], row["word_count"], float(row["confidence_score"] or 0))


def follow(aws: Connection, job_id: str, timeout: float, show: Callable[[Job], None] = lambda _job: None) -> Job:
    """Wait until the job ended, and show it after each look. Raises OpsError after `timeout` seconds."""
    status = None

    def ended() -> Job | None:
        nonlocal status
        job = find_job(aws, job_id)
        status = job.status
        show(job)
        return job if job.ended else None

    try:
        return wait_for(ended, timeout, poll=_POLL_SECONDS)
    except TooLong:
        raise OpsError(f"job {job_id} is still {status} after {timeout:.0f} s: run `make status`") from None


def _select(aws: Connection, where: str, values: tuple[str, ...], limit: int) -> list[Job]:
    with _tables(aws) as database, database.cursor() as cursor:
        cursor.execute(
            "SELECT id, status, progress, attempts, school_id, teacher_id, s3_key, processing_started_at,"  # noqa: S608
            " processing_completed_at, duration_seconds, error_message FROM audio_jobs"
            f" WHERE {where} ORDER BY COALESCE(processing_started_at, '9999-12-31') DESC, id LIMIT %s",
            (*values, limit),
        )
        return [
            Job(
                id=row["id"],
                status=JobStatus(row["status"]),
                progress=row["progress"] or 0,
                attempts=row["attempts"] or 0,
                school_id=row["school_id"],
                teacher_id=row["teacher_id"],
                s3_key=row["s3_key"],
                started_at=row["processing_started_at"],
                completed_at=row["processing_completed_at"],
                duration_seconds=row["duration_seconds"],
                error_message=row["error_message"],
            )
            for row in cursor.fetchall()
        ]


class _tables:  # noqa: N801 - reads as a function
    """The database. Tables that are missing or out of date become an OpsError."""

    def __init__(self, aws: Connection) -> None:
        self._database = aws.database()

    def __enter__(self) -> pymysql.Connection[DictCursor]:
        return self._database

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._database.close()
        if isinstance(error, pymysql.MySQLError) and error.args[0] in {ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR}:
            raise OpsError("the tables are not there or not up to date: run `make migrate`") from error
