"""The worker's unit and its check, driven through systemctl."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import Protocol

_POLL_SECONDS = 0.5
_UP_SECONDS = 150.0  # its TimeoutStartSec, and time to say that it polls
_STAYS_SECONDS = 3.0
_MARGIN_SECONDS = 30.0


class CheckFailed(Exception):
    """The release does not work; the message is its last line of log."""


class Unit(Protocol):
    def reload(self) -> None:
        """Make systemd read the units again: they lie in the release, which has changed."""

    def should_run(self) -> bool:
        """Whether it runs, or would if it had not crashed; False when somebody stopped it."""

    def stop(self) -> None:
        """Drain the worker; returns when it has exited."""

    def start(self) -> None: ...

    def check(self) -> None:
        """Run the current release's check, in the worker's sandbox. Raises CheckFailed."""

    def wait_until_it_polls(self) -> None:
        """Raises CheckFailed when the started worker crashes, or does not come up."""


@dataclass(frozen=True)
class SystemdUnit:
    name: str
    stop_seconds: float
    check_seconds: float

    def reload(self) -> None:
        _systemctl("daemon-reload", timeout=60)

    def should_run(self) -> bool:
        return self._show("ActiveState") != "inactive"  # one that crashed should run too

    def stop(self) -> None:
        _systemctl("stop", self.name, f"{self.name}-failed", timeout=self.stop_seconds + _MARGIN_SECONDS)

    def start(self) -> None:
        _systemctl("reset-failed", self.name, timeout=30)
        _systemctl("start", "--no-block", self.name, timeout=30)

    def check(self) -> None:
        unit = f"{self.name}-check"
        if not _systemctl("start", unit, timeout=self.check_seconds + _MARGIN_SECONDS):
            _systemctl("reset-failed", unit, timeout=30)
            raise CheckFailed(f"its check failed: {_last_words(unit)}")

    def wait_until_it_polls(self) -> None:
        deadline = time.monotonic() + _UP_SECONDS
        steady_since: float | None = None
        while time.monotonic() < deadline:
            state, status = self._show("ActiveState"), self._show("StatusText")
            if state == "failed" or self._show("NRestarts") not in {"0", ""}:
                raise CheckFailed(f"the worker crashed at its start: {_last_words(self.name)}")
            if state == "inactive" and self._show("Result") == "success" and steady_since is not None:
                return  # it polled, found nothing to do, and exited
            if state == "active" and status:
                steady_since = steady_since or time.monotonic()
                if time.monotonic() - steady_since >= _STAYS_SECONDS:
                    return
            time.sleep(_POLL_SECONDS)
        raise CheckFailed(f"the worker did not come up within {_UP_SECONDS:.0f} s: {_last_words(self.name)}")

    def _show(self, name: str) -> str:
        command = ["systemctl", "show", self.name, f"--property={name}", "--value"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout.strip()


def _systemctl(*arguments: str, timeout: float) -> bool:
    command = ["systemctl", *arguments]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=timeout).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _last_words(unit: str) -> str:
    command = ["journalctl", f"--unit={unit}", "--lines=30", "--output=cat", "--no-pager", "--quiet"]
    output = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout
    lines = [line for line in output.splitlines() if line.strip() and not _SYSTEMDS_OWN.match(line)]
    return lines[-1][:600] if lines else "it said nothing"


# systemd logs lines of its own after the unit's last one.
_SYSTEMDS_OWN = re.compile(r"\S+\.service: |(Start|Stopp|Finish|Failed to start|Consumed)\w* ")
