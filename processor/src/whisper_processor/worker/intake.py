"""Receives messages and downloads their files: the next one while the current one is transcribed."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from whisper_processor.aws.queue import Delivery, Lease, LessonQueue
from whisper_processor.aws.storage import LessonStore
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.messages import JobMessage, parse_message
from whisper_processor.waiting import Tick, wait_for

_UPLOAD = "upload"
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Assignment:
    """A leased message and its file on disk, or the error that took their place."""

    lease: Lease
    folder: Path
    message: JobMessage | None
    """None for a malformed message, and for S3's test event (whose `error` is None too)."""
    error: PermanentError | TransientError | None

    @property
    def delivery(self) -> Delivery:
        return self.lease.delivery

    @property
    def audio(self) -> Path:
        return self.folder / _UPLOAD

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Intake:
    """Use it from one thread. It polls and downloads on a second thread, one message at a time."""

    def __init__(
        self,
        queue: LessonQueue,
        store: LessonStore,
        *,
        wait_seconds: int,
        max_file_bytes: int,
        work_dir: Path | None,
        on_error: Callable[[Exception], None],
    ) -> None:
        self._queue = queue
        self._store = store
        self._wait = wait_seconds
        self._max_bytes = max_file_bytes
        self._work_dir = work_dir
        self._on_error = on_error
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="intake")
        self._pending: Future[Assignment | None] | None = None
        self._prefetching = threading.Event()

    def take(self, tick: Tick) -> Assignment | None:
        """The prefetched assignment, else that of one long poll; None when the poll was empty.

        `tick` must not raise: what the poll receives would be lost.
        """
        self._prefetching.clear()
        pending, self._pending = self._pending, None
        if pending is not None and (assignment := wait_for(pending, tick)):
            return assignment
        return wait_for(self._thread.submit(self._receive), tick)

    def prefetch(self) -> None:
        """Start to look for the next assignment while the caller works on the current one."""
        self._prefetching.set()
        self._pending = self._thread.submit(self._receive_until_told)

    def give_back(self) -> None:
        """Return what was prefetched to the queue, now or when the current poll ends."""
        self._prefetching.clear()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.add_done_callback(self._return)

    def close(self) -> None:
        """Give back what was prefetched. Waits for one long poll at most."""
        self.give_back()
        self._thread.shutdown()

    def _return(self, prefetched: Future[Assignment | None]) -> None:
        if (assignment := prefetched.result()) is None:
            return
        try:
            assignment.lease.give_back()
        except (BotoCoreError, ClientError) as error:  # the message comes back when its lease expires
            self._on_error(error)
        finally:
            assignment.discard()

    def _receive_until_told(self) -> Assignment | None:
        while self._prefetching.is_set():
            try:
                if assignment := self._receive():
                    return assignment
            except (BotoCoreError, ClientError, OSError) as error:
                self._on_error(error)
                time.sleep(_RETRY_SECONDS)
        return None

    def _receive(self) -> Assignment | None:
        # First, so that a full disk is met before a message is received.
        folder = Path(tempfile.mkdtemp(prefix="lesson-", dir=self._work_dir))
        try:
            delivery = self._queue.receive(self._wait)
            if delivery is not None:
                return self._fetch(delivery, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        folder.rmdir()
        return None

    def _fetch(self, delivery: Delivery, folder: Path) -> Assignment:
        message: JobMessage | None = None
        error: PermanentError | TransientError | None = None
        try:
            message = parse_message(delivery.body)
        except PermanentError as caught:
            error = caught
        with structlog.contextvars.bound_contextvars(job_id=message.job_id if message else None):
            lease = Lease(self._queue, delivery, self._on_error)
            try:
                if message is not None:
                    self._store.download(message.s3Key, folder / _UPLOAD, self._max_bytes)
            except (PermanentError, TransientError) as caught:
                error = caught
            except BaseException:  # otherwise the lease would be extended for ever
                lease.end()
                raise
        return Assignment(lease, folder, message, error)
