"""Takes messages off the queue and fetches their files: the next one while the current one is transcribed."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from whisper_processor.contracts import JobMessage, parse_message
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.queue import Delivery, Lease, LessonQueue
from whisper_processor.storage import LessonStore


@dataclass(frozen=True)
class Assignment:
    """A leased message with its file on disk, or the error that stands in their place."""

    lease: Lease
    folder: Path
    message: JobMessage | None
    """None for a malformed message, and for S3's test event (then `error` is None too)."""
    error: PermanentError | TransientError | None

    @property
    def delivery(self) -> Delivery:
        return self.lease.delivery

    @property
    def audio(self) -> Path:
        return self.folder / "upload"

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Intake:
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
        self._busy = threading.Event()

    def take(self) -> Assignment | None:
        """The prefetched assignment, else one long poll's; None when the poll came back empty."""
        self._busy.clear()
        if self._pending is not None:
            pending, self._pending = self._pending, None
            if assignment := pending.result():
                return assignment
        return self._receive()

    def prefetch(self) -> None:
        """Start looking for the next assignment while the caller works on one."""
        self._busy.set()
        self._pending = self._thread.submit(self._receive_while_busy)

    def close(self) -> None:
        """Give back what was prefetched. Waits out at most one long poll."""
        self._busy.clear()
        if self._pending is not None and (assignment := self._pending.result()):
            assignment.lease.release()
            assignment.discard()
        self._pending = None
        self._thread.shutdown()

    def _receive_while_busy(self) -> Assignment | None:
        while self._busy.is_set():
            try:
                if assignment := self._receive():
                    return assignment
            except (BotoCoreError, ClientError) as error:
                self._on_error(error)
                if not self._busy.wait(1):
                    break
        return None

    def _receive(self) -> Assignment | None:
        delivery = self._queue.receive(self._wait)
        if delivery is None:
            return None
        lease = Lease(self._queue, delivery, self._on_error)
        folder = Path(tempfile.mkdtemp(prefix="lesson-", dir=self._work_dir))
        message: JobMessage | None = None
        error: PermanentError | TransientError | None = None
        try:
            message = parse_message(delivery.body)
            if message is not None:
                self._store.download(message.s3Key, folder / "upload", self._max_bytes)
        except (PermanentError, TransientError) as caught:
            error = caught
        return Assignment(lease, folder, message, error)
