"""The worker's loop: poll the queue, do each job, and decide when to leave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from contracts.hold import Hold
from whisper_processor.settings import Settings
from whisper_processor.worker.backoff import retry_delay
from whisper_processor.worker.drain import Drain
from whisper_processor.worker.intake import Assignment, Intake
from whisper_processor.worker.job import JobRunner
from whisper_processor.worker.pulse import Pulse

log = structlog.get_logger()


class Worker:
    def __init__(
        self,
        settings: Settings,
        intake: Intake,
        runner: JobRunner,
        *,
        drain: Drain,
        pulse: Pulse,
        hold: Callable[[], Hold | None] = lambda: None,
        random: Random | None = None,
    ) -> None:
        """While there is a `hold`, an empty queue is no reason to leave."""
        self._settings = settings
        self._intake = intake
        self._runner = runner
        self._drain = drain
        self._pulse = pulse
        self._hold = hold
        self._random = random or Random()  # noqa: S311 - jitter

    def run(self) -> bool:
        """Work until the queue stayed empty for `empty_polls` polls, or until the worker is drained.

        True when nothing is left to do, False after a drain.
        """
        empty = failures = 0
        self._runner.preload()
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
                    if not self._is_held():
                        return True
                    empty = 0
            return False
        finally:
            self._intake.close()
            self._runner.close()

    def _is_held(self) -> bool:
        hold = self._hold()
        if hold is None or not hold.active_at(datetime.now(UTC)):
            return False
        log.info("held", by=hold.by, until=hold.until and hold.until.isoformat())
        return True

    def _handle(self, assignment: Assignment) -> None:
        job_id = assignment.message.job_id if assignment.message else None
        with structlog.contextvars.bound_contextvars(job_id=job_id):
            try:
                if self._drain.requested:
                    assignment.lease.give_back()
                    return
                self._intake.prefetch()
                self._runner.run(assignment)
            except (BotoCoreError, ClientError) as error:
                # The message could not be settled: its lease expires, and it is delivered again.
                log.warning("queue_unreachable", error=str(error))
            finally:
                assignment.lease.end()
                self._pulse.say("polling")
                assignment.discard()
