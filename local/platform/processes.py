"""Background processes that outlive the command that starts them, identified by pid and start time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

from local.errors import LocalError

T = TypeVar("T")


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start a child without input, whose output is read as text, in a session that can be killed as a whole."""
    return subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        start_new_session=True,
    )


@dataclass(frozen=True)
class Service:
    name: str
    run_dir: Path
    log: Path

    @property
    def _record(self) -> Path:
        return self.run_dir / f"{self.name}.json"

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
        """Start in a session of its own, so that Ctrl-C in the terminal does not reach it."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = psutil.Process(process.pid).create_time()
        self._record.write_text(json.dumps({"pid": process.pid, "started": started}))

    def process(self) -> psutil.Process | None:
        """The process this service started. None when it has ended, even if its pid is in use again."""
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            same = process.create_time() == record["started"] and process.status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None
        return process if same else None

    def wait_for(self, what: str, look: Callable[[], T | None], seconds: float = 60.0) -> T:
        """The first thing that `look` finds. Raises LocalError when the process ends first, or takes too long."""
        deadline = time.monotonic() + seconds
        while not (found := look()):
            if self.process() is None or time.monotonic() > deadline:
                raise LocalError(f"{what} did not start: {self.last_words()}")
            time.sleep(0.2)
        return found

    def stop(self, timeout: float) -> bool:
        """Terminate it, kill it after `timeout` seconds. False when it was not running."""
        process = self.process()
        if process is not None:
            try:
                process.terminate()
                process.wait(timeout)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(10)
            except psutil.NoSuchProcess:
                pass
        self._record.unlink(missing_ok=True)
        return process is not None

    def last_words(self, lines: int = 3) -> str:
        """The end of its log, for the message that says it did not start."""
        if not self.log.exists():
            return ""
        return " | ".join(self.log.read_text(errors="replace").strip().splitlines()[-lines:])
