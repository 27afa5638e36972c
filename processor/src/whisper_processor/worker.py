"""The worker's loop: take a lesson, transcribe, write, again; leave when there is nothing left to do.

Every path a job can take ends in one of four ways, and each is one short method: done, failed (permanent),
later (transient), given back (the worker must leave).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from whisper_processor.backoff import retry_delay
from whisper_processor.confidence import confidence
from whisper_processor.contracts import JobMessage, transcript_key
from whisper_processor.database import Claim, JobStore, Outcome, Result
from whisper_processor.engines.base import Options, Transcription
from whisper_processor.errors import Drained, PermanentError, TransientError
from whisper_processor.instance import Machine
from whisper_processor.intake import Assignment, Intake
from whisper_processor.media import decode
from whisper_processor.models import ModelError, model_path
from whisper_processor.outputs import plain_text, render
from whisper_processor.settings import Settings
from whisper_processor.storage import LessonStore
from whisper_processor.transcriber import Transcriber, Work

log = structlog.get_logger()


class Drain:
    """The wish that the worker leave, and the moment by which it must have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requested = threading.Event()
        self._deadline = float("inf")

    def request(self, seconds: float) -> None:
        """Only the first request sets the deadline: a second signal does not buy time."""
        if not self._requested.is_set():
            self._deadline = self._clock() + seconds
            self._requested.set()

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        return self._requested.wait(seconds)

    def fits(self, seconds: float) -> bool:
        """Whether work of that length would end in time."""
        return self._clock() + seconds <= self._deadline


def remaining_seconds(elapsed: float, fraction: float) -> float:
    """Estimate what is left of a job that did `fraction` in `elapsed` seconds; infinite while unknown."""
    return elapsed * (1 - fraction) / fraction if fraction > 0 else float("inf")


@dataclass
class Now:
    """What the worker does at the moment, for the heartbeat."""

    job_id: str | None = None
    percent: int = 0


class Worker:
    def __init__(
        self,
        settings: Settings,
        *,
        intake: Intake,
        jobs: JobStore,
        store: LessonStore,
        transcriber: Transcriber,
        drain: Drain,
        random: Random | None = None,
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._jobs = jobs
        self._store = store
        self._transcriber = transcriber
        self._drain = drain
        self._random = random or Random()  # noqa: S311 - jitter
        self.now = Now()

    def run(self) -> bool:
        """Work until the queue stayed empty for `empty_polls` polls, or drained. True: nothing left to do."""
        empty = failures = 0
        log.info("polling_started", wait_seconds=self._settings.poll_wait_seconds)
        try:
            while not self._drain.requested:
                try:
                    assignment = self._intake.take()
                except (BotoCoreError, ClientError) as error:
                    failures += 1
                    delay = retry_delay(failures, 1.0, 30.0, self._random)
                    log.warning("receive_failed", error=str(error), retry_in=delay)
                    self._drain.wait(delay)
                    continue
                failures = 0
                if assignment is not None:
                    empty = 0
                    self._handle(assignment)
                    continue
                empty += 1
                log.info("poll_empty", count=empty, of=self._settings.empty_polls)
                if empty >= self._settings.empty_polls:
                    return True
            return False
        finally:
            self._intake.close()
            self._jobs.close()

    def _handle(self, assignment: Assignment) -> None:
        message = assignment.message
        with structlog.contextvars.bound_contextvars(job_id=message.job_id if message else None):
            try:
                if self._drain.requested:
                    assignment.lease.release()
                    return
                self._intake.prefetch()
                if message is None:
                    self._without_job(assignment)
                else:
                    self._job(assignment, message)
            except (BotoCoreError, ClientError) as error:
                # The message's fate could not be told to SQS: its lease ends by itself and it comes again.
                log.warning("queue_unreachable", error=str(error))
                assignment.lease.end()
            finally:
                self.now = Now()
                assignment.discard()

    def _without_job(self, assignment: Assignment) -> None:
        if assignment.error is None:
            log.info("s3_test_event")
            assignment.lease.delete()
            return
        log.error("message_refused", reason=str(assignment.error), message_id=assignment.delivery.message_id)
        assignment.lease.bury(str(assignment.error))

    def _job(self, assignment: Assignment, message: JobMessage) -> None:
        lease = assignment.lease
        claim: Claim | None = None
        try:
            claim = self._jobs.claim(
                message,
                first_delivery=assignment.delivery.receive_count == 1,
                max_attempts=self._settings.max_attempts,
            )
            if claim.outcome is Outcome.ALREADY_COMPLETED:
                log.info("already_completed")
                lease.delete()
            elif claim.outcome is Outcome.EXHAUSTED:
                raise PermanentError(f"The transcription was tried {claim.attempt} times without success.")
            else:
                self._transcribe(assignment, message, claim)
                lease.delete()
        except PermanentError as error:
            self._failed(assignment, claim, message, str(error))
        except Drained:
            log.info("given_back")
            self._quietly_requeue(claim, attempt_counts=False)
            lease.release()
        except TransientError as error:
            self._later(assignment, claim, message, str(error))

    def _transcribe(self, assignment: Assignment, message: JobMessage, claim: Claim) -> None:
        settings = self._settings
        self.now = Now(claim.job_id)
        log.info("job_started", attempt=claim.attempt, queue_wait=_age(assignment.delivery.sent_at))
        if assignment.error is not None:
            raise assignment.error
        samples = assignment.folder / "samples"
        duration = decode(assignment.audio, samples, settings.max_audio_seconds)
        assignment.audio.unlink()
        engine = message.engine or settings.whisper_engine
        model = message.model or settings.whisper_model
        try:
            path = model_path(settings.whisper_models_dir, engine, model)
        except ModelError as error:
            raise PermanentError(str(error)) from error
        work = Work(
            samples=samples,
            engine=engine,
            model=path,
            options=Options(
                task=message.task,
                language=message.language,
                word_timestamps=message.wordTimestamps,
                beam_size=settings.whisper_beam_size,
                batch_size=settings.whisper_batch_size,
                threads=settings.whisper_threads,
            ),
        )
        started = time.monotonic()
        deadline = max(settings.deadline_minimum_seconds, duration * settings.deadline_factor)
        transcription = self._transcriber.transcribe(work, deadline, self._ticker(claim.job_id, started))
        seconds = time.monotonic() - started
        sureness = confidence(transcription.segments)
        self._write_outputs(claim, transcription, duration, sureness)
        first = self._jobs.complete(
            claim.job_id,
            claim.owner,
            Result(
                text=plain_text(transcription),
                confidence=sureness,
                duration_seconds=duration,
                model=model,
                engine=engine,
                language=transcription.language,
            ),
        )
        log.info(
            "job_completed" if first else "already_completed",
            audio_seconds=round(duration, 1),
            processing_seconds=round(seconds, 1),
            real_time_factor=round(seconds / duration, 3),
            segments=len(transcription.segments),
            language=transcription.language,
            model=model,
            engine=engine,
        )

    def _ticker(self, job_id: str, started: float) -> Callable[[float], None]:
        """Write progress every few seconds; raise Drained when the worker must leave before the end."""
        written = started

        def tick(fraction: float) -> None:
            nonlocal written
            now = time.monotonic()
            if self._drain.requested and not self._drain.fits(remaining_seconds(now - started, fraction)):
                raise Drained
            if now - written >= self._settings.progress_seconds:
                written = now
                percent = min(99, int(fraction * 100))
                self.now = Now(job_id, percent)
                self._jobs.progress(job_id, percent)

        return tick

    def _write_outputs(self, claim: Claim, transcription: Transcription, duration: float, sureness: float) -> None:
        for output in render(claim.job_id, transcription, duration, sureness):
            key = transcript_key(claim.owner, claim.job_id, output.suffix)
            self._store.upload_text(key, output.text, output.content_type)

    def _failed(self, assignment: Assignment, claim: Claim | None, message: JobMessage, reason: str) -> None:
        log.error("job_failed", kind="permanent", reason=reason)
        try:
            self._jobs.fail(claim.job_id if claim else message.job_id, reason)
        except TransientError as error:
            self._later(assignment, claim, message, str(error))
            return
        assignment.lease.bury(reason)

    def _later(self, assignment: Assignment, claim: Claim | None, message: JobMessage, reason: str) -> None:
        attempt = claim.attempt if claim else assignment.delivery.receive_count
        if claim and claim.attempt >= self._settings.max_attempts:
            self._failed_for_good(assignment, claim, reason)
            return
        delay = retry_delay(
            attempt, self._settings.backoff_base_seconds, self._settings.backoff_max_seconds, self._random
        )
        log.warning("job_retried", kind="transient", reason=reason, attempt=attempt, retry_in=delay)
        self._quietly_requeue(claim, attempt_counts=True, reason=reason)
        assignment.lease.release(delay)

    def _failed_for_good(self, assignment: Assignment, claim: Claim, reason: str) -> None:
        reason = f"The transcription was tried {claim.attempt} times without success; the last time: {reason}"
        log.error("job_failed", kind="transient", reason=reason)
        try:
            self._jobs.fail(claim.job_id, reason)
        except TransientError as error:
            log.warning("job_retried", kind="transient", reason=str(error), attempt=claim.attempt)
            assignment.lease.release(int(self._settings.backoff_max_seconds))
            return
        assignment.lease.bury(reason)

    def _quietly_requeue(self, claim: Claim | None, *, attempt_counts: bool, reason: str | None = None) -> None:
        """The message decides; a row left at `processing` is set right at its next delivery."""
        if claim is None:
            return
        try:
            self._jobs.requeue(claim.job_id, attempt_counts=attempt_counts, reason=reason)
        except TransientError as error:
            log.warning("requeue_not_recorded", error=str(error))


def start_heartbeat(worker: Worker, machine: Machine, drain: Drain, interval: float) -> threading.Thread:
    """Tag the instance at once, then every `interval` seconds and whenever the worker takes or ends a job."""

    def beat() -> None:
        said: str | None = ""
        last = float("-inf")
        while True:
            now, clock = worker.now, time.monotonic()
            if now.job_id != said or clock - last >= interval:
                said, last = now.job_id, clock
                try:
                    machine.heartbeat(now.job_id, now.percent)
                except (BotoCoreError, ClientError) as error:
                    log.warning("heartbeat_failed", error=str(error))
            if drain.wait(1):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    return thread


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)
