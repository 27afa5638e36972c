"""The worker as a process of its own against a private cloud, and what its log says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.platform.cloud import LocalCloud
from ops.settings import REPOSITORY

# The discard port: this machine is no EC2 instance, and the worker learns so at once.
_NO_METADATA = "http://127.0.0.1:9"


def worker_environment(cloud: LocalCloud, folder: Path, endpoint: str | None = None) -> dict[str, str]:
    """What a worker in `folder` needs to find the cloud, through `endpoint` when that is given."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "processor" / "src")]),
        "PYTHONUNBUFFERED": "1",
        **cloud.client_environment(endpoint),
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": _NO_METADATA,
        "DATABASE_CA": str(cloud.database.ca),
        "WHISPER_MODELS_DIR": str(cloud.models_dir),
        "WORK_DIR": str(folder),
        "EMPTY_POLLS": "1000000",  # whoever started it says when it leaves
    }


@dataclass
class WorkerProcess:
    """A worker and its child, in a session of their own; it can be started again after each end."""

    name: str
    folder: Path
    environment: Mapping[str, str]
    module: str = "whisper_processor"
    """Run with `python -m`."""
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def _errors(self) -> Path:
        return self.folder / "stderr"

    @property
    def pid(self) -> int | None:
        """Of the latest start; None before the first."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        with self.log.open("ab") as out, self._errors.open("ab") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module],
                env=dict(self.environment),
                cwd=self.folder,  # a developer's .env must not reach it
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.starts += 1

    def exit_code(self) -> int | None:
        """None while it runs. 0 before its first start."""
        return self._process.poll() if self._process else 0

    def child(self) -> psutil.Process | None:
        """The engine's process; None when there is none at the moment."""
        if self._process is None:
            return None
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "multiprocessing.spawn" in " ".join(process.cmdline()):
                        return process
        return None

    def signal(self, number: signal.Signals) -> None:
        """To the whole group: the worker, its child, and any ffmpeg."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self) -> None:
        """Ask the worker to leave."""
        self.signal(signal.SIGCONT)  # a paused one would not hear it
        if self._process is not None:
            self._process.terminate()

    def leave(self, seconds: float) -> None:
        """Ask it to leave; kill what has not left in time."""
        self.terminate()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def events(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """The events in its log, all or those called `name`. A line that a kill cut short is left out."""
        if not self.log.exists():
            return
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                fields = json.loads(line)
                if isinstance(fields, dict) and name in (None, fields.get("event")):
                    yield fields

    def last_words(self) -> str:
        """The end of what it wrote to stderr; of its log when it wrote nothing there."""
        for file in (self._errors, self.log):
            text = file.read_text(errors="replace").strip() if file.exists() else ""
            if text:
                return " | ".join(text.splitlines()[-3:])
        return ""
