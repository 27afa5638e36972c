"""Settle a message: record in the database how its job ended, then delete, return or dead-letter the message."""

from __future__ import annotations

from random import Random

import structlog

from whisper_processor.aws.metrics import FailureKind, Metrics
from whisper_processor.database.jobs import Claim, JobStore
from whisper_processor.errors import Drained, PermanentError, TransientError
from whisper_processor.messages import JobMessage, MalformedMessage
from whisper_processor.settings import Settings
from whisper_processor.worker.backoff import retry_delay
from whisper_processor.worker.endings import (
    AlreadyFailed,
    Completed,
    Ending,
    Failed,
    GivenBack,
    LeftAlone,
    Retried,
)
from whisper_processor.worker.intake import Assignment

log = structlog.get_logger()


class Settlement:
    """Its methods raise botocore's errors when SQS does not respond."""

    def __init__(self, settings: Settings, jobs: JobStore, metrics: Metrics, random: Random | None = None) -> None:
        self._settings = settings
        self._jobs = jobs
        self._metrics = metrics
        self._random = random or Random()  # noqa: S311 - jitter

    def refuse(self, assignment: Assignment) -> None:
        """Settle a message without a job to do: a malformed one, or S3's test event, which is only deleted."""
        error = assignment.error
        if error is None:
            log.info("s3_test_event")
            assignment.lease.delete()
            return
        log.error("message_refused", reason=str(error), message_id=assignment.delivery.message_id)
        if isinstance(error, MalformedMessage) and error.job_id is not None:
            try:
                self._jobs.fail(error.job_id, str(error))
            except (TransientError, PermanentError, Drained) as unavailable:
                log.warning("failure_not_recorded", error=str(unavailable))
                assignment.lease.give_back(self._retry_delay(assignment.delivery.receive_count))
                return
        self._metrics.job_failed(FailureKind.PERMANENT)
        assignment.lease.dead_letter(str(error))

    def settle(self, assignment: Assignment, message: JobMessage, ending: Ending, claim: Claim | None) -> None:
        """Tell the database and the queue how the delivery ended."""
        lease = assignment.lease
        match ending:
            case Completed(before):
                if before:
                    log.info("already_completed")
                lease.delete()
            case AlreadyFailed(reason):
                log.info("already_failed")
                lease.dead_letter(reason)
            case Failed(reason, kind):
                self._fail(assignment, claim, message, reason, kind)
            case Retried(reason, attempt):
                delay = self._retry_delay(attempt)
                kind = FailureKind.TRANSIENT
                log.warning("job_retried", kind=kind, reason=reason, attempt=attempt, retry_in=delay)
                if self._requeue(claim, attempt_counts=True, reason=reason):
                    lease.give_back(delay)
            case GivenBack():
                log.info("given_back")
                self._requeue(claim, attempt_counts=False)
                lease.give_back()
            case LeftAlone(None):
                log.warning("left_to_another_worker")
            case LeftAlone(int(retry_in)):
                log.info("held_by_another_worker", retry_in=retry_in)
                lease.give_back(retry_in)

    def _fail(
        self, assignment: Assignment, claim: Claim | None, message: JobMessage, reason: str, kind: FailureKind
    ) -> None:
        job_id = claim.job_id if claim else message.job_id
        try:
            recorded = self._jobs.fail(job_id, reason)
        except (TransientError, Drained) as error:
            # The row must say `failed` before the message goes to the dead-letter queue: it is delivered again.
            log.warning("failure_not_recorded", error=str(error))
            assignment.lease.give_back(self._retry_delay(assignment.delivery.receive_count))
            return
        if claim and not recorded:
            log.warning("left_to_another_worker")
            return
        log.error("job_failed", kind=kind, reason=reason)
        self._metrics.job_failed(kind)
        assignment.lease.dead_letter(reason)

    def _retry_delay(self, attempt: int) -> int:
        settings = self._settings
        return retry_delay(attempt, settings.backoff_base_seconds, settings.backoff_max_seconds, self._random)

    def _requeue(self, claim: Claim | None, *, attempt_counts: bool, reason: str | None = None) -> bool:
        """Whether the message is still this worker's to give back.

        A row that stays at `processing` is corrected at the next delivery.
        """
        if claim is None:
            return True
        try:
            return self._jobs.requeue(claim.job_id, attempt_counts=attempt_counts, reason=reason)
        except (TransientError, Drained) as error:
            log.warning("requeue_not_recorded", error=str(error))
            return True
