"""What to do about releases: pure decisions, apart from the machine that they are applied to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from whisper_processor.releases import Wanted


@dataclass(frozen=True)
class Disk:
    """The releases on a machine by name. A link that is missing or broken is None."""

    complete: frozenset[str]
    current: str | None
    """The one the worker runs."""
    proven: str | None
    """The last one that passed its check."""
    previous: str | None
    """The one proven before that."""


@dataclass(frozen=True)
class Failure:
    """A request (a release wanted since a moment) that failed on this machine."""

    release: str
    asked_at: datetime


class Step(StrEnum):
    INSTALL = "install"
    NOTHING = "nothing"
    SKIP = "skip"


def sound_release(disk: Disk) -> str | None:
    """The release that `current` and `proven` must both name; None when there is none.

    An interrupted update leaves `current` at a release that never passed its check, which is not trusted.
    """
    names = (disk.proven, disk.previous, disk.current)
    return next((name for name in names if name in disk.complete), None)


def next_step(disk: Disk, wanted: Wanted | None, failure: Failure | None) -> tuple[Step, str]:
    """The step, and its reason. A request that failed here is tried again only when it is made again."""
    if wanted is None:
        return Step.NOTHING, "no release is wanted"
    name = wanted.release.name
    if name == disk.current:
        return Step.NOTHING, f"{name} runs already"
    if failure is not None and failure == Failure(name, wanted.set_at):
        return Step.SKIP, f"{name} failed on this machine before; `make deploy-processor` tries it again"
    return Step.INSTALL, f"{name} is wanted by {wanted.set_by}"


def releases_to_prune(newest_first: Sequence[str], disk: Disk, wanted: str | None, kept: int) -> list[str]:
    """Which folders to remove: all but those in use or wanted, and the `kept` newest complete ones."""
    used = {disk.current, disk.proven, disk.previous, wanted}
    spare = [name for name in newest_first if name not in used]
    stay = [name for name in spare if name in disk.complete][:kept]
    return [name for name in spare if name not in stay]


def runtimes_to_prune(runtimes: Collection[str], referred: Mapping[str, str | None]) -> list[str]:
    """Which runtimes to remove: those that no remaining release uses. `referred` maps release to runtime."""
    return sorted(set(runtimes) - {runtime for runtime in referred.values() if runtime})
