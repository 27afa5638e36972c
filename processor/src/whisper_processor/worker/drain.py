"""Leaving in time: a service stop, a Spot notice or the fleet asks the worker to end, and says by when."""

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

_GOODBYE_SECONDS = 10.0
_SPOT_NOTICE_SECONDS = 120.0 - _GOODBYE_SECONDS
_NOTICE_CHECK_SECONDS = 5.0
log = structlog.get_logger()


class Drain:
    """The wish that the worker leave, and the moment by which it must have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requested = threading.Event()
        self._deadline = float("inf")

    def request(self, seconds: float) -> None:
        """The earliest deadline holds: a second request does not buy time, and may leave less of it."""
        self._deadline = min(self._deadline, self._clock() + seconds)
        self._requested.set()

    @property
    def requested(self) -> bool:
        return self._requested.is_set()

    def wait(self, seconds: float) -> bool:
        return self._requested.wait(seconds)

    def fits(self, seconds: float) -> bool:
        """Whether work of that length would end in time; always, while nobody asks the worker to leave."""
        return self._clock() + seconds <= self._deadline


def drain_on_signals(drain: Drain, seconds: float) -> None:
    """SIGTERM and Ctrl-C ask the worker to leave within `seconds`."""
    # A signal handler may run while the main thread holds the event's own lock, and setting the event would
    # then wait for itself. SimpleQueue.put is safe in a handler; a thread does the rest.
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
    """Ask the worker to leave before Spot takes the instance, which `on_spot` is told of, or its fleet ends it.

    A rebalance recommendation needs no watch of its own: the fleet acts on it (CapacityRebalance), and ends the
    instance when another has taken its place.
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
                retiring = True  # and go on looking: Spot may leave less time
                log.info("fleet_notice", detail="the Auto Scaling group ends this instance")
                drain.request(DRAIN_HOOK_SECONDS - _GOODBYE_SECONDS)
            time.sleep(every)

    threading.Thread(target=watch, name="notices", daemon=True).start()
