"""The sign of life of the worker's own loop, for systemd's watchdog and for the instance's heartbeat.

Both must come from the loop, not from a thread of their own: a thread goes on while the loop hangs.
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
        """The service is up: what waits for it may go on."""
        self._watchdog.ready()
        self.beat()

    def beat(self) -> None:
        """Called often from the loop; systemd is told as often as its timeout asks for."""
        self._last = self._clock()
        self._watchdog.ping()

    def say(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._watchdog.status(text)

    @property
    def silent_seconds(self) -> float:
        """How long the loop has not come by."""
        return self._clock() - self._last
