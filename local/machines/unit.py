"""`whisper-processor.service` without systemd: `Restart=on-failure` with a limit, stopped by SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from contracts.names import SERVICE
from local.platform.processes import spawn

_STOP_SECONDS = 150.0  # above the default of DRAIN_SECONDS
_RESTART_SECONDS = 2.0
_RESTARTS = 5


class UnitState(StrEnum):
    """As `systemctl is-active` prints them."""

    ACTIVE = "active"
    DEACTIVATING = "deactivating"
    INACTIVE = "inactive"
    FAILED = "failed"


class Unit:
    def __init__(self, argv: Sequence[str], env: dict[str, str], cwd: Path, log: Callable[[str], None]) -> None:
        self._argv, self._env, self._cwd, self._log = argv, env, cwd, log
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None
        self._failed = False
        self._since = time.time()

    @property
    def state(self) -> UnitState:
        if self._thread is not None and self._thread.is_alive():
            return UnitState.DEACTIVATING if self._stopping.is_set() else UnitState.ACTIVE
        return UnitState.FAILED if self._failed else UnitState.INACTIVE

    def start(self) -> None:
        """Does nothing when it runs already."""
        with self._changing:
            if self.state is UnitState.ACTIVE:
                return
            self._stopping.clear()
            self._failed = False
            self._since = time.time()
            self._thread = threading.Thread(target=self._run, name=SERVICE, daemon=True)
            self._thread.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Send SIGTERM, and SIGKILL to what does not end in time."""
        with self._changing:
            self._stopping.set()
            deadline = time.monotonic() + seconds
            while self._thread is not None and self._thread.is_alive():
                process = self._process
                if process is not None and process.poll() is None:
                    self._end(process, deadline)
                self._thread.join(0.1)
            self._since = time.time()

    def control(self, verb: str) -> tuple[int, str]:
        """Do what `systemctl VERB whisper-processor` does. Returns its exit code and output."""
        match verb:
            case "start":
                self.start()
            case "stop":
                self.stop()
            case "restart":
                self.stop()
                self.start()
            case "is-active":
                return self._code(), f"{self.state}\n"
            case "status":
                return self._code(), self._describe()
            case _:
                return 1, f"this machine's systemctl does not know {verb!r}\n"
        return 0, ""

    def _code(self) -> int:
        return 0 if self.state is UnitState.ACTIVE else 3

    def _describe(self) -> str:
        since = time.strftime("%a %Y-%m-%d %H:%M:%S UTC", time.gmtime(self._since))
        process = self._process
        pid = f"   Main PID: {process.pid}\n" if process is not None and process.poll() is None else ""
        return (
            f"{SERVICE}.service - ClassReflect Whisper processor\n     Active: {self.state} since {since}\n{pid}"
        )

    def _run(self) -> None:
        for _ in range(_RESTARTS):
            if self._stopping.is_set():
                return
            child = spawn(self._argv, cwd=self._cwd, env=self._env, stderr=subprocess.STDOUT)
            with child as self._process:
                for line in self._process.stdout or ():
                    self._log(line.rstrip("\n"))
            if self._process.returncode == 0 or self._stopping.wait(_RESTART_SECONDS):
                return
        self._failed = True
        self._log(f'{{"event": "crash_loop", "detail": "the processor failed {_RESTARTS} times"}}')

    @staticmethod
    def _end(process: subprocess.Popen[str], deadline: float) -> None:
        process.terminate()
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
