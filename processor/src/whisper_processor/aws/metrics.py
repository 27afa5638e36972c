"""The worker's metrics in CloudWatch.

A thread of its own sends them, so an unavailable CloudWatch never holds up a lesson.
"""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from contracts.metrics import AUDIO_SECONDS, NAMESPACE

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_cloudwatch.literals import StandardUnitType
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

log = structlog.get_logger()


class FailureKind(StrEnum):
    PERMANENT = "permanent"
    TRANSIENT = "transient"
    """Every attempt met an error that a retry might have cured."""


class Metrics:
    def __init__(self, client: CloudWatchClient) -> None:
        self._client = client
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")

    def job_done(
        self, *, audio_seconds: float, processing_seconds: float, queue_wait: float, model_load_seconds: float
    ) -> None:
        """A lesson was transcribed. `queue_wait` is the time from the message's sending to this attempt."""
        data = [
            _datum("JobsDone", 1, "Count"),
            _datum("JobFailed", 0, "Count"),
            _datum(AUDIO_SECONDS, audio_seconds, "Seconds"),
            _datum("ProcessingSeconds", processing_seconds, "Seconds"),
            _datum("RealTimeFactor", processing_seconds / audio_seconds, "None"),
            _datum("QueueWait", queue_wait, "Seconds"),
        ]
        if model_load_seconds > 0:
            data.append(_datum("ModelLoadSeconds", model_load_seconds, "Seconds"))
        self._submit(data)

    def job_failed(self, kind: FailureKind) -> None:
        failed = _datum("JobsFailed", 1, "Count")
        failed["Dimensions"] = [{"Name": "Kind", "Value": kind}]
        # JobFailed is 0 or 1 for each lesson, so that its average is the failure rate.
        self._submit([failed, _datum("JobFailed", 1, "Count")])

    def interrupted(self) -> None:
        """Spot reclaims the instance."""
        self._submit([_datum("SpotNotices", 1, "Count")])

    def close(self) -> None:
        """Send what is pending; the client's timeouts bound the wait."""
        self._thread.shutdown()

    def _submit(self, data: Sequence[MetricDatumTypeDef]) -> None:
        # With the caller's context, so that the thread's log lines carry the job's id.
        self._thread.submit(contextvars.copy_context().run, self._send, data)

    def _send(self, data: Sequence[MetricDatumTypeDef]) -> None:
        try:
            self._client.put_metric_data(Namespace=NAMESPACE, MetricData=data)
        except (BotoCoreError, ClientError) as error:
            log.warning("metrics_not_sent", error=str(error))


def _datum(name: str, value: float, unit: StandardUnitType) -> MetricDatumTypeDef:
    return {"MetricName": name, "Value": value, "Unit": unit}
