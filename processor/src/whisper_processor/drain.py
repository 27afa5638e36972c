"""Leaving in time: a service stop or a Spot notice asks the worker to end, and says by when."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import structlog

from whisper_processor.instance import Metadata

_SPOT_NOTICE_SECONDS = 110.0  # two minutes are given; ten seconds are kept to say goodbye
_SPOT_CHECK_SECONDS = 5.0
log = structlog.get_logger()


class Drain:
    """The wish that the worker leave, and the moment by which it must have."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requested = threading.Event()
        self._deadline = float("inf")

    def request(self, seconds: float) -> None:
        """Only the first request sets the deadline: a second signal does not buy time."""
        if not self._requested.is_set():
            self._deadline = self._clock() + seconds
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


def drain_on_spot_notice(metadata: Metadata, drain: Drain, every: float = _SPOT_CHECK_SECONDS) -> None:
    """A Spot interruption notice asks the worker to leave before the instance is taken."""

    def watch() -> None:
        while not drain.wait(every):
            if metadata.leaving():
                log.warning("spot_notice", detail="this instance is taken back in two minutes")
                drain.request(_SPOT_NOTICE_SECONDS)

    threading.Thread(target=watch, name="spot", daemon=True).start()
