"""The worker's loop: take a lesson, transcribe, write, again; leave when there is nothing left to do.

Every path a job can take ends in one of five ways, and each is one short method: done, failed (permanent),
later (transient), given back (the worker must leave), left alone (another worker has it).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from contracts.hold import Hold
from contracts.jobs import EngineName, Task
from contracts.keys import transcript_key
from whisper_processor.audio.media import decode
from whisper_processor.aws.instance import Machine
from whisper_processor.aws.metrics import FailureKind, Metrics
from whisper_processor.aws.storage import LessonStore
from whisper_processor.database.jobs import Claim, JobStore, Outcome, Result
from whisper_processor.engines.base import Options, Transcription
from whisper_processor.engines.child import Transcriber, Work
from whisper_processor.engines.choice import Choice, resolve
from whisper_processor.errors import Drained, LeaseLost, PermanentError, TransientError
from whisper_processor.messages import JobMessage, MalformedMessage
from whisper_processor.models import ModelError, fetch_from_bucket, is_english_only, model_path
from whisper_processor.settings import Settings
from whisper_processor.transcripts.confidence import confidence
from whisper_processor.transcripts.outputs import plain_text, render
from whisper_processor.worker.backoff import retry_delay
from whisper_processor.worker.drain import Drain
from whisper_processor.worker.intake import Assignment, Intake
from whisper_processor.worker.pulse import Pulse
from whisper_processor.worker.waiting import Tick, wait_for

# A loop that was silent for longer than systemd's watchdog allows is about to be killed, and is not to look alive.
_HUNG_SECONDS = 120.0
_LONGEST_HOLD_SECONDS = 900
log = structlog.get_logger()


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
        metrics: Metrics,
        drain: Drain,
        pulse: Pulse,
        most_deliveries: int | None,
        hold: Callable[[], Hold | None] = lambda: None,
        random: Random | None = None,
    ) -> None:
        """`most_deliveries` is the queue's own limit, after which SQS takes a message away; None for no limit.
        While there is a `hold` an empty queue is no reason to leave."""
        self._settings = settings
        self._intake = intake
        self._jobs = jobs
        self._store = store
        self._transcriber = transcriber
        self._metrics = metrics
        self._drain = drain
        self._pulse = pulse
        self._most_deliveries = most_deliveries
        self._hold = hold
        self._choice = resolve(settings.whisper_engine)
        self._model_folders = [
            settings.whisper_models_dir,
            settings.fetched_models_dir or settings.whisper_models_dir,
        ]
        self._random = random or Random()  # noqa: S311 - jitter
        self.now = Now()
        jobs.on_wait = self._tick_to_the_end

    def run(self) -> bool:
        """Work until the queue stayed empty for `empty_polls` polls, or drained. True: nothing left to do."""
        empty = failures = 0
        self._prepare()
        log.info("polling_started", wait_seconds=self._settings.poll_wait_seconds)
        self._pulse.say("polling")
        try:
            while not self._drain.requested:
                self._pulse.beat()
                try:
                    assignment = self._intake.take(self._pulse.beat)
                except (BotoCoreError, ClientError, OSError) as error:
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
                    hold = self._hold()
                    if hold is None or not hold.active_at(datetime.now(UTC)):
                        return True
                    log.info("held", by=hold.by, until=hold.until and hold.until.isoformat())
                    empty = 0
            return False
        finally:
            self._intake.close()
            self._jobs.close()

    def _prepare(self) -> None:
        """Begin to load the usual model beside the first poll: a machine is started because lessons wait."""
        engine = self._choice.engine
        with suppress(ModelError):  # it is fetched when a lesson asks for it
            path = model_path(self._model_folders, engine, self._settings.whisper_model)
            self._transcriber.prepare(engine, path, self._settings.whisper_threads)

    def rehearse(self, sample: Path) -> int:
        """Transcribe a recording as a lesson is, and write nothing; the number of words heard.

        Raises PermanentError and TransientError, as a lesson would.
        """
        settings = self._settings
        with TemporaryDirectory(dir=settings.work_dir, prefix="check-") as folder:
            samples = Path(folder) / "samples"
            decode(sample, samples, settings.max_audio_seconds)
            try:
                model = model_path(self._model_folders, self._choice.engine, settings.whisper_model)
            except ModelError as error:
                raise PermanentError(str(error)) from error
            work = Work(samples=samples, engine=self._choice.engine, model=model, options=self._options())
            done = self._transcriber.transcribe(work, settings.deadline_minimum_seconds, lambda _fraction: None)
        return len(plain_text(done.transcription).split())

    def _options(self, message: JobMessage | None = None) -> Options:
        settings = self._settings
        asked = message or JobMessage(s3Key="-")
        return Options(
            task=asked.task,
            language=asked.language,
            word_timestamps=asked.wordTimestamps,
            beam_size=settings.whisper_beam_size,
            batch_size=settings.whisper_batch_size,
            threads=settings.whisper_threads,
        )

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
            finally:
                assignment.lease.end()
                self.now = Now()
                self._pulse.say("polling")
                assignment.discard()

    def _without_job(self, assignment: Assignment) -> None:
        error = assignment.error
        if error is None:
            log.info("s3_test_event")
            assignment.lease.delete()
            return
        log.error("message_refused", reason=str(error), message_id=assignment.delivery.message_id)
        if isinstance(error, MalformedMessage) and error.job_id is not None:
            try:
                self._jobs.fail(error.job_id, str(error))
            except (TransientError, PermanentError, Drained) as away:
                log.warning("failure_not_recorded", error=str(away))
                assignment.lease.release(self._retry_delay(assignment.delivery.receive_count))
                return
        self._metrics.job_failed(FailureKind.PERMANENT)
        assignment.lease.bury(str(error))

    def _job(self, assignment: Assignment, message: JobMessage) -> None:
        lease = assignment.lease
        claim: Claim | None = None
        try:
            claim = self._jobs.claim(
                message,
                sent_at=assignment.delivery.sent_at,
                max_attempts=self._settings.max_attempts,
            )
            if claim.outcome is Outcome.ALREADY_COMPLETED:
                log.info("already_completed")
                lease.delete()
            elif claim.outcome is Outcome.ALREADY_FAILED:
                log.info("already_failed")
                lease.bury(claim.reason)
            elif claim.outcome is Outcome.HELD:
                # Longer each time: a message that waits out a long lesson must not use up its deliveries.
                delay = min(claim.held_seconds * assignment.delivery.receive_count, _LONGEST_HOLD_SECONDS)
                log.info("held_by_another_worker", retry_in=delay)
                lease.release(delay)
            elif claim.outcome is Outcome.EXHAUSTED:
                # The worker itself died with it each time, or this would have been said before.
                text = f"The transcription was tried {claim.attempt} times without success."
                self._failed(assignment, claim, message, text, FailureKind.TRANSIENT)
            else:
                self._transcribe(assignment, message, claim)
                lease.delete()
        except PermanentError as error:
            self._failed(assignment, claim, message, str(error), FailureKind.PERMANENT)
        except TransientError as error:
            self._later(assignment, claim, message, str(error))
        except Drained:
            log.info("given_back")
            self._quietly_requeue(claim, attempt_counts=False)
            lease.release()
        except LeaseLost:
            log.warning("left_to_another_worker")

    def _transcribe(self, assignment: Assignment, message: JobMessage, claim: Claim) -> None:
        settings = self._settings
        self.now = Now(claim.job_id)
        self._pulse.say(f"transcribing {claim.job_id}")
        queue_wait = _age(assignment.delivery.sent_at)
        log.info("job_started", attempt=claim.attempt, queue_wait=queue_wait)
        if assignment.error is not None:
            raise assignment.error
        chosen = Choice(message.engine, "the job asks for it") if message.engine else self._choice
        engine = chosen.engine
        model = message.model or settings.whisper_model
        _refuse_other_languages(model, message)
        preparing = partial(self._ticker(claim.job_id, time.monotonic()), 0.0)
        path = self._model(engine, model, preparing)
        self._transcriber.prepare(engine, path, settings.whisper_threads)
        samples = assignment.folder / "samples"
        duration = decode(assignment.audio, samples, settings.max_audio_seconds, preparing)
        assignment.audio.unlink()
        work = Work(samples=samples, engine=engine, model=path, options=self._options(message))
        started = time.monotonic()
        deadline = max(settings.deadline_minimum_seconds, duration * settings.deadline_factor)
        done = self._transcriber.transcribe(work, deadline, self._ticker(claim.job_id, started))
        transcription, seconds = done.transcription, time.monotonic() - started
        sureness = confidence(transcription.segments)
        if not self._jobs.progress(claim.job_id, 99):
            raise LeaseLost
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
        if not first:
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
            model=model,
            engine=engine,
            engine_reason=chosen.reason,
        )
        self._metrics.job_done(
            audio_seconds=duration,
            processing_seconds=seconds,
            queue_wait=queue_wait,
            model_load_seconds=done.model_load_seconds,
        )

    def _model(self, engine: EngineName, name: str, tick: Tick) -> Path:
        """Where the model lies; fetched from the bucket when this machine does not have it."""
        try:
            return model_path(self._model_folders, engine, name)
        except ModelError as missing:
            log.info("model_fetched", model=name, engine=engine)
            fetched = self._model_folders[-1]
            if not self._fetch_model(engine, name, fetched, tick):
                raise PermanentError(str(missing)) from missing
            return model_path([fetched], engine, name)

    def _fetch_model(self, engine: EngineName, name: str, folder: Path, tick: Tick) -> bool:
        leaving = threading.Event()

        def on_bytes(_count: int) -> None:
            if leaving.is_set():
                raise TransientError("the worker must leave")

        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="model") as thread:
            fetching = thread.submit(fetch_from_bucket, self._store, name, engine, folder, on_bytes)
            try:
                return wait_for(fetching, tick)
            except BaseException:
                leaving.set()
                raise

    def _tick_to_the_end(self) -> None:
        """For writing what has been computed: tried until the last moment."""
        self._pulse.beat()
        if not self._drain.fits(0):
            raise Drained

    def _ticker(self, job_id: str, started: float) -> Callable[[float], None]:
        """Write progress every few seconds; raise Drained or LeaseLost when going on is of no use.

        Work of unknown length stays at the fraction 0, and is dropped as soon as the worker must leave.
        """
        written = started

        def tick(fraction: float) -> None:
            nonlocal written
            now = time.monotonic()
            self._pulse.beat()
            if self._drain.requested:
                self._intake.give_back()
                if not self._drain.fits(remaining_seconds(now - started, fraction)):
                    raise Drained
            if now - written >= self._settings.progress_seconds:
                written = now
                percent = min(99, int(fraction * 100))
                self.now = Now(job_id, percent)
                if not self._jobs.progress(job_id, percent):
                    raise LeaseLost

        return tick

    def _write_outputs(self, claim: Claim, transcription: Transcription, duration: float, sureness: float) -> None:
        for output in render(claim.job_id, transcription, duration, sureness):
            self._pulse.beat()
            key = transcript_key(claim.owner, claim.job_id, output.suffix)
            self._store.upload_text(key, output.text, output.content_type)

    def _failed(
        self, assignment: Assignment, claim: Claim | None, message: JobMessage, reason: str, kind: FailureKind
    ) -> None:
        job_id = claim.job_id if claim else message.job_id
        try:
            recorded = self._jobs.fail(job_id, reason)
        except (TransientError, Drained) as error:
            # The row must say `failed` before the message goes to the dead letters, so it comes once more.
            log.warning("failure_not_recorded", error=str(error))
            assignment.lease.release(self._retry_delay(assignment.delivery.receive_count))
            return
        if claim and not recorded:
            log.warning("left_to_another_worker")
            return
        log.error("job_failed", kind=kind, reason=reason)
        self._metrics.job_failed(kind)
        assignment.lease.bury(reason)

    def _later(self, assignment: Assignment, claim: Claim | None, message: JobMessage, reason: str) -> None:
        deliveries = assignment.delivery.receive_count
        tried = claim.attempt if claim else deliveries
        used_up = claim is not None and claim.attempt >= self._settings.max_attempts
        taken_away = self._most_deliveries is not None and deliveries >= self._most_deliveries
        if used_up or taken_away:
            text = f"The transcription was tried {tried} times without success; the last time: {reason}"
            self._failed(assignment, claim, message, text, FailureKind.TRANSIENT)
            return
        delay = self._retry_delay(tried)
        log.warning("job_retried", kind=FailureKind.TRANSIENT, reason=reason, attempt=tried, retry_in=delay)
        if self._quietly_requeue(claim, attempt_counts=True, reason=reason):
            assignment.lease.release(delay)

    def _retry_delay(self, attempt: int) -> int:
        settings = self._settings
        return retry_delay(attempt, settings.backoff_base_seconds, settings.backoff_max_seconds, self._random)

    def _quietly_requeue(self, claim: Claim | None, *, attempt_counts: bool, reason: str | None = None) -> bool:
        """Whether the message is still ours to decide on; a row left at `processing` is set right at the next
        delivery."""
        if claim is None:
            return True
        try:
            return self._jobs.requeue(claim.job_id, attempt_counts=attempt_counts, reason=reason)
        except (TransientError, Drained) as error:
            log.warning("requeue_not_recorded", error=str(error))
            return True


def start_heartbeat(
    worker: Worker, machine: Machine, pulse: Pulse, drain: Drain, interval: float
) -> threading.Thread:
    """Tag the instance at once, then every `interval` seconds and whenever the worker takes or ends a job.

    A loop that hangs is no longer vouched for.
    """

    def beat() -> None:
        said: str | None = ""
        last = float("-inf")
        while True:
            now, clock = worker.now, time.monotonic()
            if pulse.silent_seconds < _HUNG_SECONDS and (now.job_id != said or clock - last >= interval):
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


def _refuse_other_languages(model: str, message: JobMessage) -> None:
    """English-only models would transcribe anything as English, wrongly and without a word of warning."""
    if is_english_only(model) and (message.language not in (None, "en") or message.task is Task.TRANSLATE):
        raise PermanentError(f"The model {model} knows English only; ask for another model for this language.")


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)
