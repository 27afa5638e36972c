"""The releases on the machine's disk. Power may fail between any two steps, so each change that counts is atomic.

A release counts once its marker exists, which its role writes last; a link is replaced by a rename.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from whisper_processor.update.plan import Disk, releases_to_prune, runtimes_to_prune

MARKER = ".complete"


class ReleaseStore:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.releases = home / "releases"
        self.runtimes = home / "runtimes"

    def disk(self) -> Disk:
        complete = frozenset(name for name in self._folders(self.releases) if self._is_complete(name))
        return Disk(complete, self._target("current"), self._target("proven"), self._target("previous"))

    def point(self, link: str, release: str) -> None:
        """Make the link `current`, `proven` or `previous` name the release, durably."""
        target = self.releases / release
        unfinished = self.home / f".{link}.new"
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(target)
        unfinished.replace(self.home / link)
        _sync_folder(self.home)

    def has_runtime(self, sha256: str) -> bool:
        return (self.runtimes / sha256[:12] / MARKER).exists()

    def prune(self, wanted: str | None, kept: int) -> list[str]:
        """Remove what is not needed (see `plan`); returns the names."""
        newest_first = sorted(
            self._folders(self.releases), key=lambda name: (self.releases / name).stat().st_mtime, reverse=True
        )
        gone = releases_to_prune(newest_first, self.disk(), wanted, kept)
        for name in gone:
            _remove(self.releases / name)
        referred = {name: self._runtime_of(name) for name in self._folders(self.releases)}
        idle = runtimes_to_prune(self._folders(self.runtimes), referred)
        for name in idle:
            _remove(self.runtimes / name)
        return [*gone, *(f"runtime {name}" for name in idle)]

    def _is_complete(self, release: str) -> bool:
        runtime = self._runtime_of(release)
        marked = (self.releases / release / MARKER).exists()
        return marked and runtime is not None and (self.runtimes / runtime / MARKER).exists()

    def _runtime_of(self, release: str) -> str | None:
        try:
            return (self.releases / release / "runtime").readlink().name
        except OSError:
            return None

    def _target(self, link: str) -> str | None:
        try:
            name = (self.home / link).readlink().name
        except OSError:
            return None
        return name if (self.releases / name).is_dir() else None

    @staticmethod
    def _folders(parent: Path) -> list[str]:
        return sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []


def _remove(folder: Path) -> None:
    """Remove the marker first: an interrupted removal leaves nothing that looks complete."""
    (folder / MARKER).unlink(missing_ok=True)
    _sync_folder(folder)
    shutil.rmtree(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
