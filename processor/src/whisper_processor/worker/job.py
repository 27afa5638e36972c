"""The course of one job: claim it, transcribe it, write the outputs, complete it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from contracts.keys import transcript_key
from whisper_processor.audio.media import decode
from whisper_processor.aws.metrics import Metrics
from whisper_processor.aws.storage import LessonStore
from whisper_processor.database.jobs import Claim, JobStore, Result
from whisper_processor.engines.base import Transcription
from whisper_processor.engines.child import Transcriber, Work
from whisper_processor.engines.choice import resolve
from whisper_processor.errors import Drained, LeaseLost, PermanentError, TransientError
from whisper_processor.messages import JobMessage
from whisper_processor.models import ModelError
from whisper_processor.models.provider import ModelProvider
from whisper_processor.settings import Settings
from whisper_processor.transcripts.confidence import confidence
from whisper_processor.transcripts.outputs import plain_text, render
from whisper_processor.worker.drain import Drain, remaining_seconds
from whisper_processor.worker.endings import (
    Completed,
    Ending,
    Tries,
    deadline_seconds,
    ending_of_claim,
    ending_of_error,
)
from whisper_processor.worker.heartbeat import Now
from whisper_processor.worker.intake import Assignment
from whisper_processor.worker.pulse import Pulse
from whisper_processor.worker.request import resolve_request
from whisper_processor.worker.settlement import Settlement

log = structlog.get_logger()


@dataclass(frozen=True)
class Services:
    """What a job needs from the outside."""

    jobs: JobStore
    store: LessonStore
    models: ModelProvider
    transcriber: Transcriber
    metrics: Metrics


class JobRunner:
    """Runs one job at a time, on the thread of the worker's loop."""

    def __init__(
        self,
        settings: Settings,
        services: Services,
        *,
        drain: Drain,
        pulse: Pulse,
        give_back_prefetched: Callable[[], None],
        most_deliveries: int | None,
    ) -> None:
        """`give_back_prefetched` is called once the worker must leave while a job is running. `most_deliveries` is
        the queue's own limit, after which SQS moves a message away; None for no limit."""
        self._settings = settings
        self._jobs = services.jobs
        self._store = services.store
        self._models = services.models
        self._transcriber = services.transcriber
        self._metrics = services.metrics
        self._drain = drain
        self._pulse = pulse
        self._give_back_prefetched = give_back_prefetched
        self._most_deliveries = most_deliveries
        self._usual_engine = resolve(settings.whisper_engine)
        self._settlement = Settlement(settings, services.jobs, services.metrics)
        self.now = Now()
        """Replaced as a whole: the heartbeat reads it from its own thread."""

    def preload(self) -> None:
        """Start to load the usual model during the first poll: a machine is started because lessons wait."""
        settings, engine = self._settings, self._usual_engine.engine
        with suppress(ModelError):  # it is fetched when a lesson asks for it
            path = self._models.installed(engine, settings.whisper_model)
            self._transcriber.prepare(engine, path, settings.whisper_threads)

    def run(self, assignment: Assignment) -> None:
        """Do the job and settle its message. Raises botocore's errors when SQS does not respond."""
        try:
            if assignment.message is None:
                self._settlement.refuse(assignment)
            else:
                ending, claim = self._outcome(assignment, assignment.message)
                self._settlement.settle(assignment, assignment.message, ending, claim)
        finally:
            self.now = Now()

    def close(self) -> None:
        self._jobs.close()

    def _outcome(self, assignment: Assignment, message: JobMessage) -> tuple[Ending, Claim | None]:
        delivery, most_attempts = assignment.delivery, self._settings.max_attempts
        tries = Tries(delivery.receive_count, most_attempts, self._most_deliveries)
        claim: Claim | None = None
        try:
            claim = self._jobs.claim(message, sent_at=delivery.sent_at, max_attempts=most_attempts)
            ending = ending_of_claim(claim, tries)
            if ending is None:
                self._transcribe(assignment, message, claim)
                ending = Completed()
        except (PermanentError, TransientError, Drained, LeaseLost) as error:
            ending = ending_of_error(error, claim, tries)
        return ending, claim

    def _transcribe(self, assignment: Assignment, message: JobMessage, claim: Claim) -> None:
        settings = self._settings
        self.now = Now(claim.job_id)
        self._pulse.say(f"transcribing {claim.job_id}")
        queue_wait = _age(assignment.delivery.sent_at)
        log.info("job_started", attempt=claim.attempt, queue_wait=queue_wait)
        if assignment.error is not None:
            raise assignment.error
        request = resolve_request(message, settings, self._usual_engine)
        preparing = partial(self._ticker(claim.job_id, time.monotonic()), 0.0)
        path = self._models.provide(request.engine, request.model, preparing)
        self._transcriber.prepare(request.engine, path, settings.whisper_threads)
        samples = assignment.folder / "samples"
        duration = decode(assignment.audio, samples, settings.max_audio_seconds, preparing)
        assignment.audio.unlink()
        work = Work(samples=samples, engine=request.engine, model=path, options=request.options)
        started = time.monotonic()
        deadline = deadline_seconds(
            duration, factor=settings.deadline_factor, minimum=settings.deadline_minimum_seconds
        )
        done = self._transcriber.transcribe(work, deadline, self._ticker(claim.job_id, started))
        transcription, seconds = done.transcription, time.monotonic() - started
        if not self._jobs.progress(claim.job_id, 99):
            raise LeaseLost
        result = Result(
            text=plain_text(transcription),
            confidence=confidence(transcription.segments),
            duration_seconds=duration,
            model=request.model,
            engine=request.engine,
            language=transcription.language,
        )
        self._write_outputs(claim, transcription, result)
        if not self._jobs.complete(claim.job_id, claim.owner, result):
            log.info("already_completed")
            return
        log.info(
            "job_completed",
            audio_seconds=round(duration, 1),
            processing_seconds=round(seconds, 1),
            real_time_factor=round(seconds / duration, 3),
            model_load_seconds=round(done.model_load_seconds, 2),
            segments=len(transcription.segments),
            language=transcription.language,
            model=request.model,
            engine=request.engine,
            engine_reason=request.engine_reason,
        )
        self._metrics.job_done(
            audio_seconds=duration,
            processing_seconds=seconds,
            queue_wait=queue_wait,
            model_load_seconds=done.model_load_seconds,
        )

    def _ticker(self, job_id: str, started: float) -> Callable[[float], None]:
        """Write progress every few seconds; raise Drained or LeaseLost when there is no point in going on.

        Work of unknown length stays at the fraction 0, and is dropped as soon as the worker must leave.
        """
        written = started

        def tick(fraction: float) -> None:
            nonlocal written
            now = time.monotonic()
            self._pulse.beat()
            if self._drain.requested:
                self._give_back_prefetched()
                if not self._drain.fits(remaining_seconds(now - started, fraction)):
                    raise Drained
            if now - written >= self._settings.progress_seconds:
                written = now
                percent = min(99, int(fraction * 100))
                self.now = Now(job_id, percent)
                if not self._jobs.progress(job_id, percent):
                    raise LeaseLost

        return tick

    def _write_outputs(self, claim: Claim, transcription: Transcription, result: Result) -> None:
        for output in render(claim.job_id, transcription, result.duration_seconds, result.confidence):
            self._pulse.beat()
            key = transcript_key(claim.owner, claim.job_id, output.suffix)
            self._store.upload_text(key, output.text, output.content_type)


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)
