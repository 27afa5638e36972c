"""Ships the processor's log, as the CloudWatch agent does on the appliance."""

from __future__ import annotations

import queue
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from contracts.names import PROCESSOR_LOG_GROUP

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient


class LogShipper:
    """Sends each line to the processor's log group, and keeps a copy in a file."""

    def __init__(self, client: CloudWatchLogsClient, stream: str, copy: Path) -> None:
        self._client = client
        self._stream = stream
        self._lines: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
        self._copy = copy
        threading.Thread(target=self._ship, name=f"logs-{stream}", daemon=True).start()

    def line(self, text: str) -> None:
        with self._copy.open("a") as copy:
            copy.write(text + "\n")
        self._lines.put((int(time.time() * 1000), text))

    def _ship(self) -> None:
        while True:
            batch = [self._lines.get()]
            time.sleep(0.3)
            while not self._lines.empty():
                batch.append(self._lines.get())
            try:
                self._send(batch)
            except (BotoCoreError, ClientError) as error:
                sys.stderr.write(f"log lines not shipped: {error}\n")

    def _send(self, batch: list[tuple[int, str]]) -> None:
        exists = self._client.exceptions.ResourceAlreadyExistsException
        with suppress(exists):
            self._client.create_log_group(logGroupName=PROCESSOR_LOG_GROUP)
        with suppress(exists):
            self._client.create_log_stream(logGroupName=PROCESSOR_LOG_GROUP, logStreamName=self._stream)
        self._client.put_log_events(
            logGroupName=PROCESSOR_LOG_GROUP,
            logStreamName=self._stream,
            logEvents=[{"timestamp": moment, "message": text} for moment, text in batch],
        )
