"""One update, step by step. The order makes it safe: no link names a release before the release is complete, the
worker is drained only when everything else is done, and a release that fails its check never takes a lesson."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from whisper_processor.releases import Release, StoredFile, UpdateReport, UpdateResult, Wanted
from whisper_processor.update.memory import Memory
from whisper_processor.update.plan import Failure, Step, next_step, sound_release
from whisper_processor.update.roles import InstallFailed
from whisper_processor.update.source import Refused, Unreachable
from whisper_processor.update.store import ReleaseStore
from whisper_processor.update.unit import CheckFailed, Unit

Say = Callable[[str, str], None]
"""Called with each stage (one word) and its detail."""
_FREE_BYTES = 200 * 1024**2


class ReleaseSource(Protocol):
    """Where the updater learns which release is wanted, and where it downloads it from."""

    def wanted(self) -> Wanted | None: ...

    def fetch(self, file: StoredFile, target: Path) -> None: ...


class Roles(Protocol):
    def install(self, release: Release, archive: Path, wheelhouse: Path, scratch: Path) -> None: ...


@dataclass(frozen=True)
class Updater:
    store: ReleaseStore
    source: ReleaseSource
    roles: Roles
    unit: Unit
    memory: Memory
    kept: int
    say: Say
    at_boot: bool
    """systemd starts the worker after the update. Otherwise the updater stops and starts the worker itself."""

    def update(self) -> UpdateReport:
        """Roll back an interrupted update, then bring the machine to the wanted release.

        Does not raise for errors of AWS, the bucket or the release: the machine goes on with the release it ran
        before, and the report says why.
        """
        started = time.monotonic()
        self._heal()
        wanted: Wanted | None = None
        try:
            wanted = self.source.wanted()
            result, reason = self._bring_to(wanted)
        except Unreachable as error:
            result, reason = UpdateResult.UNREACHABLE, str(error)
        except Refused as error:
            result, reason = UpdateResult.REFUSED, str(error)
            self._remember(wanted)
        except (InstallFailed, CheckFailed) as error:
            result, reason = UpdateResult.FAILED, str(error)
            self._remember(wanted)
        except OSError as error:
            result, reason = UpdateResult.FAILED, f"the machine itself: {error}"
        disk = self.store.disk()
        return UpdateReport(
            result=result,
            reason=reason,
            wanted=wanted.release.name if wanted else None,
            current=disk.current,
            previous=disk.previous,
            seconds=round(time.monotonic() - started, 1),
            at=datetime.now(UTC),
        )

    def restart(self) -> UpdateReport:
        """Restart the worker so that it reads its settings again, after a check of the release with them."""
        started = time.monotonic()
        self._heal()
        result, reason = UpdateResult.INSTALLED, "the worker runs with the settings of Parameter Store"
        self.say("drain", "the worker finishes its lesson or gives it back")
        self.unit.stop()
        try:
            self.say("check", "the sample is transcribed with the new settings")
            self.unit.check()
            self.unit.start()
            self.unit.wait_until_it_polls()
        except CheckFailed as error:
            result, reason = UpdateResult.FAILED, str(error)
        disk = self.store.disk()
        return UpdateReport(
            result=result,
            reason=reason,
            wanted=None,
            current=disk.current,
            previous=disk.previous,
            seconds=round(time.monotonic() - started, 1),
            at=datetime.now(UTC),
        )

    def _heal(self) -> None:
        disk = self.store.disk()
        sound = sound_release(disk)
        if sound is None or (disk.current, disk.proven) == (sound, sound):
            return
        self.say("heal", f"an update was interrupted: back from {disk.current} to {sound}")
        self._switch(sound)
        self.store.point("proven", sound)

    def _bring_to(self, wanted: Wanted | None) -> tuple[UpdateResult, str]:
        disk = self.store.disk()
        step, reason = next_step(disk, wanted, self.memory.failure())
        if step is Step.SKIP:
            return UpdateResult.SKIPPED, reason
        if step is Step.NOTHING or wanted is None:
            return UpdateResult.UNCHANGED, reason
        self._install(wanted.release)
        self._try(wanted.release.name)
        for name in self.store.prune(wanted.release.name, self.kept):
            self.say("pruned", name)
        return UpdateResult.INSTALLED, reason

    def _install(self, release: Release) -> None:
        if release.name in self.store.disk().complete:
            self.say("present", f"{release.name} is on the disk")
            return
        self.store.prune(release.name, self.kept)  # make room first
        with tempfile.TemporaryDirectory(dir=self.memory.folder, prefix="update-") as folder:
            scratch = Path(folder)
            archive, wheelhouse = scratch / "release.tar", scratch / "wheelhouse.tar"
            self.say("fetch", release.archive.key)
            self.source.fetch(release.archive, archive)
            if not self.store.has_runtime(release.wheelhouse.sha256):
                self.say("fetch", release.wheelhouse.key)
                self.source.fetch(release.wheelhouse, wheelhouse)
            if shutil.disk_usage(self.store.home).free < _FREE_BYTES:
                raise InstallFailed("the disk is full")
            self.say("install", release.name)
            self.roles.install(release, archive, wheelhouse, scratch)
        if release.name not in self.store.disk().complete:
            raise InstallFailed("its roles went through and left no complete release")

    def _try(self, release: str) -> None:
        """Switch to the release and check it; roll back on any failure. Raises CheckFailed."""
        before = self.store.disk()
        worked = not self.at_boot and self.unit.should_run()
        try:
            if worked:
                self.say("drain", "the worker finishes its lesson or gives it back")
                self.unit.stop()
            self._switch(release)
            self.say("check", f"{release} transcribes the sample")
            self.unit.check()
            if worked:
                self.say("start", release)
                self.unit.start()
                self.unit.wait_until_it_polls()
        except BaseException as error:
            self.say("rollback", f"to {before.current}: {error}")
            if worked:
                self.unit.stop()
            if before.current is not None:
                self._switch(before.current)
            if worked:
                self.unit.start()
            raise
        if before.proven is not None:
            self.store.point("previous", before.proven)
        self.store.point("proven", release)

    def _switch(self, release: str) -> None:
        self.store.point("current", release)
        self.unit.reload()

    def _remember(self, wanted: Wanted | None) -> None:
        if wanted is not None:
            self.memory.remember(Failure(wanted.release.name, wanted.set_at))
