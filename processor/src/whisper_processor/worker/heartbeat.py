"""The instance's heartbeat tag: what the worker is doing, for the autoscaler and for people."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from whisper_processor.aws.instance import Machine
from whisper_processor.worker.drain import Drain
from whisper_processor.worker.pulse import Pulse

# A loop that was silent for longer than systemd's watchdog allows is about to be killed. It must not look alive.
_HUNG_SECONDS = 120.0
_LOOK_SECONDS = 1.0
log = structlog.get_logger()


@dataclass(frozen=True)
class Now:
    """What the worker is doing at the moment."""

    job_id: str | None = None
    percent: int = 0


def start_heartbeat(
    now: Callable[[], Now],
    machine: Machine,
    pulse: Pulse,
    drain: Drain,
    interval: float,
    *,
    look_every: float = _LOOK_SECONDS,
) -> threading.Thread:
    """Tag the instance at once, then every `interval` seconds and whenever the worker takes or ends a job.

    The tag is no longer renewed while the worker's loop hangs.
    """

    def beat() -> None:
        last_job: str | None = ""
        last = float("-inf")
        while True:
            current, clock = now(), time.monotonic()
            due = current.job_id != last_job or clock - last >= interval
            if due and pulse.silent_seconds < _HUNG_SECONDS:
                last_job, last = current.job_id, clock
                try:
                    machine.heartbeat(current.job_id, current.percent)
                except (BotoCoreError, ClientError) as error:
                    log.warning("heartbeat_failed", error=str(error))
            if drain.wait(look_every):
                return

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    return thread
