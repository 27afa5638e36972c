"""Draining: a service stop, a Spot notice or the Auto Scaling group asks the worker to leave by a deadline."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog

from contracts.names import DRAIN_HOOK_SECONDS
from whisper_processor.aws.instance import Metadata
from whisper_processor.errors import Drained
from whisper_processor.waiting import Tick
from whisper_processor.worker.pulse import Pulse

_MARGIN_SECONDS = 10.0
_SPOT_NOTICE_SECONDS = 120.0 - _MARGIN_SECONDS
_NOTICE_CHECK_SECONDS = 5.0
log = structlog.get_logger()


class Drain:
    """Whether the worker must leave, and by when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requested = threading.Event()
        self._deadline = float("inf")

    def request(self, seconds: float) -> None:
        """The earliest deadline counts: a second request never extends it, and may shorten it."""
        self._deadline = min(self._deadline, self._clock() + seconds)
        self._requested.set()

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        return self._requested.wait(seconds)

    def fits(self, seconds: float) -> bool:
        """Whether work of that length ends before the deadline; always true while there is no request."""
        return self._clock() + seconds <= self._deadline


def remaining_seconds(elapsed: float, fraction: float) -> float:
    """Estimate what is left of a job that did `fraction` in `elapsed` seconds; infinite while unknown."""
    return elapsed * (1 - fraction) / fraction if fraction > 0 else float("inf")


def until_deadline(drain: Drain, pulse: Pulse) -> Tick:
    """A tick for writing results that are already computed: it raises Drained only after the deadline."""

    def tick() -> None:
        pulse.beat()
        if not drain.fits(0):
            raise Drained

    return tick


def drain_on_signals(drain: Drain, seconds: float) -> None:
    """Request a drain within `seconds` on SIGTERM and Ctrl-C."""
    # A signal handler may run while the main thread holds the event's lock; setting the event there would
    # deadlock. SimpleQueue.put is safe in a handler, and a thread does the rest.
    caught: queue.SimpleQueue[int] = queue.SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        caught.put(number)

    def watch() -> None:
        number = caught.get()
        log.info("drain_requested", signal=signal.Signals(number).name, seconds=seconds)
        drain.request(seconds)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    threading.Thread(target=watch, name="signals", daemon=True).start()


def drain_on_notices(
    metadata: Metadata,
    drain: Drain,
    every: float = _NOTICE_CHECK_SECONDS,
    on_spot: Callable[[], None] = lambda: None,
) -> None:
    """Request a drain before Spot reclaims the instance (`on_spot` is called), or its group terminates it.

    Rebalance recommendations need no watch: the group acts on them (CapacityRebalance), and terminates the
    instance once its replacement runs.
    """

    def watch() -> None:
        retiring = False
        while True:
            if metadata.leaving():
                log.warning("spot_notice", detail="this instance is taken back in two minutes")
                on_spot()
                drain.request(_SPOT_NOTICE_SECONDS)
                return
            if not retiring and metadata.retiring():
                retiring = True  # and keep watching: a Spot notice may leave less time
                log.info("fleet_notice", detail="the Auto Scaling group ends this instance")
                drain.request(DRAIN_HOOK_SECONDS - _MARGIN_SECONDS)
            time.sleep(every)

    threading.Thread(target=watch, name="notices", daemon=True).start()
