"""The liveness of the worker's loop, for systemd's watchdog and for the instance's heartbeat.

The loop itself must beat: a thread would go on beating while the loop hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# sd_notify; silent where systemd did not start the process
from systemd_watchdog.systemd_watchdog import WatchDog


class Pulse:
    def __init__(self, watchdog: WatchDog | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._watchdog = watchdog or WatchDog()
        self._clock = clock
        self._last = clock()

    def ready(self) -> None:
        """Tell systemd that the service is up."""
        self._watchdog.ready()
        self.beat()

    def beat(self) -> None:
        """Call it often from the loop. systemd is notified only as often as its timeout requires."""
        self._last = self._clock()
        self._watchdog.ping()

    def say(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._watchdog.status(text)

    @property
    def silent_seconds(self) -> float:
        """How long ago the loop last called `beat`."""
        return self._clock() - self._last
