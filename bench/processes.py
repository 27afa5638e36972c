"""CPU seconds and memory of a process and everything it starts."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from ops.errors import OpsError

_LOOK_SECONDS = 0.25
_KIB = 1024


@dataclass(frozen=True)
class Usage:
    cpu_seconds: float
    peak_rss_bytes: int


class Watch:
    """Looks at a process tree several times a second, on a thread, until it is ended.

    The peak is the largest sum, over the processes alive together, of each one's own high-water mark as the
    kernel keeps it: no peak between two looks is missed, and what several map alike is counted for each. So it is
    an upper bound.
    """

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._peak = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> int:
        """The peak in bytes."""
        self._ending.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while True:
            with suppress(psutil.NoSuchProcess):
                self._peak = max(self._peak, sum(high_water(process.pid) for process in tree(self._root)))
            if self._ending.wait(_LOOK_SECONDS):
                return


def tree(root: psutil.Process) -> list[psutil.Process]:
    return [root, *root.children(recursive=True)]


def high_water(pid: int) -> int:
    """The most memory a process has had resident, in bytes; 0 for one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * _KIB
    return 0


def resident(root: psutil.Process) -> int:
    """Bytes resident now, in the process and all it started."""
    total = 0
    for process in tree(root):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time so far of the process, of those it started, and of those of them that have ended."""
    total = 0.0
    for process in tree(root):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def run(argv: Sequence[str], environment: Mapping[str, str], cwd: Path, timeout: float) -> Usage:
    """Run to its end. Raises OpsError with its last words when it fails or takes longer than `timeout` seconds."""
    with (cwd / "output").open("wb+") as output:
        process = subprocess.Popen(
            argv,
            env=dict(environment),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        watch = Watch(process.pid)
        overdue = threading.Timer(timeout, process.kill)
        overdue.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            overdue.cancel()
            peak = watch.end()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        words = (cwd / "output").read_text(errors="replace").strip().splitlines()[-2:]
        raise OpsError(f"exit code {process.returncode}: {' | '.join(words) or 'it said nothing'}")
    # wait4 counts a process with all it has waited for, and knows the largest single one to the end.
    return Usage(used.ru_utime + used.ru_stime, max(peak, used.ru_maxrss * _KIB))
