"""How many cores this process may use, and how many lanes they give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Lanes:
    """Batches decoded in parallel, and the threads of each."""

    count: int
    threads: int


_MOST_LANES = 4
"""Each lane holds a batch's attention in memory. With more threads than this, a lane has several."""


def lanes_for(threads: int) -> Lanes:
    """Lanes for `threads` threads; 0 for as many as there are cores.

    With one thread per lane, no thread waits for others at the end of each layer.
    """
    threads = threads or usable_cores()
    count = min(threads, _MOST_LANES)
    return Lanes(count, threads // count)


def usable_cores(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Cores by CPU affinity and by the quotas of the control groups (v1 and v2), at least 1."""
    allowed = float(len(os.sched_getaffinity(0)))
    for quota in _quotas(cgroups, own):
        allowed = min(allowed, quota)
    return max(1, int(allowed))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """Each quota, in cores, from this process's control group up to the root."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = next((r for r in (cgroups / controllers, cgroups / "cpu") if r.is_dir()), cgroups)
        group = root / path.strip("/")
        for folder in (group, *group.parents):
            if (quota := _quota(folder)) is not None:
                yield quota
            if folder == root:
                break


def _quota(folder: Path) -> float | None:
    for limit, period in (("cpu.max", None), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            fields = (folder / limit).read_text().split()
            fields += (folder / period).read_text().split() if period else []
            quota, length = float(fields[0]), float(fields[1])
        except (OSError, ValueError, IndexError):  # no such file, or "max": no quota
            continue
        if quota > 0 and length > 0:
            return quota / length
    return None
