"""An update step by step, on a real folder: whatever fails, even the power, a working release runs."""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from whisper_processor.releases import Release, StoredFile, UpdateResult, Wanted, release_name
from whisper_processor.update.memory import Memory
from whisper_processor.update.plan import Failure
from whisper_processor.update.roles import InstallFailed, failed_task, unpack
from whisper_processor.update.source import Refused, Unreachable
from whisper_processor.update.store import MARKER, ReleaseStore
from whisper_processor.update.unit import CheckFailed
from whisper_processor.update.updater import Updater


class PowerCut(BaseException):
    """After it, nothing that the machine itself does is executed."""


def release_of(version: str) -> Release:
    sha256 = hashlib.sha256(version.encode()).hexdigest()
    return Release(
        name=release_name(version, sha256),
        version=version,
        archive=StoredFile(key=f"scripts/releases/{version}.tar", sha256=sha256),
        wheelhouse=StoredFile(key="scripts/wheelhouses/x.tar", sha256="0" * 64),
    )


OLD, NEW, BROKEN = release_of("1.0"), release_of("2.0"), release_of("3.0")
RUNTIME = OLD.wheelhouse.sha256[:12]


@dataclass
class Power:
    """Counts the machine's steps and fails at a chosen one. While it is off, nothing else happens."""

    cut_at: int | None = None
    steps: int = 0
    off: bool = False

    def step(self) -> None:
        if self.off or self.steps == self.cut_at:
            self.off = True
            raise PowerCut
        self.steps += 1


class Store(ReleaseStore):
    def __init__(self, home: Path, power: Power) -> None:
        super().__init__(home)
        self._power = power

    def point(self, link: str, release: str) -> None:
        self._power.step()
        super().point(link, release)
        self._power.step()


@dataclass
class Appliance:
    """An appliance's disk, with stand-ins for AWS, Ansible and systemd."""

    home: Path
    power: Power = field(default_factory=Power)
    request: Wanted | None = None
    wanted_error: Exception | None = None
    fetch_error: Exception | None = None
    install_error: Exception | None = None
    worker: str | None = None
    """The release the worker runs; None while it is stopped."""
    broken: frozenset[str] = frozenset({BROKEN.name})
    cannot_start: frozenset[str] = frozenset()
    fetched: list[str] = field(default_factory=list)
    checked_beside_a_worker: bool = False

    def __post_init__(self) -> None:
        self.store = Store(self.home, self.power)

    def wanted(self) -> Wanted | None:
        self.power.step()
        if self.wanted_error:
            raise self.wanted_error
        return self.request

    def fetch(self, file: StoredFile, target: Path) -> None:
        self.power.step()
        if self.fetch_error:
            raise self.fetch_error
        self.fetched.append(file.key)
        target.write_text("bytes")

    def install(self, release: Release, archive: Path, wheelhouse: Path, scratch: Path) -> None:
        folder = self.home / "releases" / release.name
        folder.mkdir(parents=True, exist_ok=True)
        self.power.step()
        if self.install_error:
            raise self.install_error
        make_release(self.home, release.name)
        self.power.step()

    def reload(self) -> None:
        self.power.step()

    def should_run(self) -> bool:
        return self.worker is not None

    def stop(self) -> None:
        self.power.step()
        self.worker = None

    def start(self) -> None:
        self.power.step()
        self.worker = self.store.disk().current

    def check(self) -> None:
        self.power.step()
        self.checked_beside_a_worker |= self.worker is not None
        if self.store.disk().current in self.broken:
            raise CheckFailed("its check failed: broken on purpose")

    def wait_until_it_polls(self) -> None:
        self.power.step()
        if self.worker in self.cannot_start:
            raise CheckFailed("the worker crashed at its start")

    def updater(self, *, at_boot: bool) -> Updater:
        return Updater(
            store=self.store,
            source=self,
            roles=self,
            unit=self,
            memory=Memory(self.home),
            kept=1,
            say=lambda _stage, _detail: self.power.step(),
            at_boot=at_boot,
        )

    def links(self) -> tuple[str | None, str | None, str | None]:
        disk = self.store.disk()
        return disk.current, disk.proven, disk.previous


def make_release(home: Path, name: str) -> None:
    runtime = home / "runtimes" / RUNTIME
    runtime.mkdir(parents=True, exist_ok=True)
    (runtime / MARKER).touch()
    folder = home / "releases" / name
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "runtime"
    if not link.is_symlink():
        link.symlink_to(runtime)
    (folder / MARKER).touch()


def request_for(release: Release, second: int = 0) -> Wanted:
    return Wanted(release=release, set_by="anna", set_at=datetime(2026, 3, 1, 12, 0, second, tzinfo=UTC))


@pytest.fixture
def appliance(tmp_path: Path) -> Appliance:
    return new_appliance(tmp_path)


def new_appliance(home: Path) -> Appliance:
    make_release(home, OLD.name)
    store = ReleaseStore(home)
    store.point("current", OLD.name)
    store.point("proven", OLD.name)
    return Appliance(home, worker=OLD.name)


@pytest.mark.parametrize("at_boot", [True, False])
def test_the_wanted_release_is_installed(appliance: Appliance, at_boot: bool) -> None:
    appliance.request = request_for(NEW)
    appliance.worker = None if at_boot else OLD.name
    report = appliance.updater(at_boot=at_boot).update()
    assert report.result is UpdateResult.INSTALLED
    assert appliance.links() == (NEW.name, NEW.name, OLD.name)
    assert appliance.worker == (None if at_boot else NEW.name), "at boot systemd starts it"
    assert appliance.fetched == [NEW.archive.key], "its runtime is there already"
    assert not appliance.checked_beside_a_worker


def test_a_missing_runtime_is_fetched(appliance: Appliance) -> None:
    appliance.request = request_for(NEW)
    (appliance.home / "runtimes" / RUNTIME / MARKER).unlink()
    appliance.updater(at_boot=True).update()
    assert NEW.wheelhouse.key in appliance.fetched


def test_the_release_that_runs_is_left_alone(appliance: Appliance) -> None:
    appliance.request = request_for(OLD)
    assert appliance.updater(at_boot=False).update().result is UpdateResult.UNCHANGED
    assert (appliance.fetched, appliance.worker) == ([], OLD.name)


def test_a_worker_that_was_stopped_by_hand_stays_stopped(appliance: Appliance) -> None:
    appliance.request, appliance.worker = request_for(NEW), None
    assert appliance.updater(at_boot=False).update().result is UpdateResult.INSTALLED
    assert appliance.worker is None


@pytest.mark.parametrize("at_boot", [True, False])
def test_a_broken_release_is_rolled_back_and_not_tried_at_the_next_boot(
    appliance: Appliance, at_boot: bool
) -> None:
    appliance.request = request_for(BROKEN)
    appliance.worker = None if at_boot else OLD.name
    report = appliance.updater(at_boot=at_boot).update()
    assert report.result is UpdateResult.FAILED
    assert "broken on purpose" in report.reason
    assert appliance.links() == (OLD.name, OLD.name, None)
    assert appliance.worker == (None if at_boot else OLD.name)
    assert appliance.updater(at_boot=True).update().result is UpdateResult.SKIPPED
    appliance.request = request_for(BROKEN, second=1)
    assert appliance.updater(at_boot=True).update().result is UpdateResult.FAILED, "requested once more"


def test_a_worker_that_does_not_come_up_is_rolled_back(appliance: Appliance) -> None:
    appliance.request, appliance.cannot_start = request_for(NEW), frozenset({NEW.name})
    assert appliance.updater(at_boot=False).update().result is UpdateResult.FAILED
    assert (appliance.links()[0], appliance.worker) == (OLD.name, OLD.name)


@pytest.mark.parametrize(
    ("fault", "result", "remembered"),
    [
        ({"wanted_error": Unreachable("no network")}, UpdateResult.UNREACHABLE, False),
        ({"wanted_error": Refused("no JSON")}, UpdateResult.REFUSED, False),
        ({"fetch_error": Unreachable("S3 is away")}, UpdateResult.UNREACHABLE, False),
        ({"fetch_error": Refused("has sha256 1, not 2")}, UpdateResult.REFUSED, True),
        ({"install_error": InstallFailed("its roles failed")}, UpdateResult.FAILED, True),
        ({"install_error": OSError("No space left on device")}, UpdateResult.FAILED, False),
    ],
)
def test_whatever_fails_before_the_switch_the_worker_is_not_disturbed(
    appliance: Appliance, fault: dict[str, Exception], result: UpdateResult, remembered: bool
) -> None:
    appliance.request = request_for(NEW)
    for name, error in fault.items():
        setattr(appliance, name, error)
    report = appliance.updater(at_boot=False).update()
    assert report.result is result
    assert str(next(iter(fault.values()))) in report.reason
    assert (appliance.links()[0], appliance.worker, report.current) == (OLD.name, OLD.name, OLD.name)
    assert (Memory(appliance.home).failure() is not None) is remembered


@pytest.mark.parametrize("release", [NEW, BROKEN])
@pytest.mark.parametrize("at_boot", [True, False])
def test_the_power_may_fail_at_any_step(tmp_path: Path, release: Release, at_boot: bool) -> None:
    """At each boot `current` names a complete release before the worker starts, and in the end the right one."""
    cut_at, ended = 0, False
    while not ended:
        home = tmp_path / str(cut_at)
        home.mkdir()
        appliance = new_appliance(home)
        appliance.request, appliance.worker = request_for(release), None if at_boot else OLD.name
        appliance.power.cut_at = cut_at
        try:
            appliance.updater(at_boot=at_boot).update()
            ended = True
        except PowerCut:
            pass
        after_boot = Appliance(home, request=request_for(release))
        after_boot.updater(at_boot=True).update()
        current, proven, _ = after_boot.links()
        assert current == proven == (NEW.name if release is NEW else OLD.name), f"cut at step {cut_at}"
        assert current in after_boot.store.disk().complete
        cut_at += 1
    assert cut_at > 10


def test_after_a_power_cut_the_worker_has_a_release_even_without_a_network(tmp_path: Path) -> None:
    cuts = 0
    for cut_at in range(40):
        home = tmp_path / str(cut_at)
        home.mkdir()
        appliance = new_appliance(home)
        appliance.request, appliance.power.cut_at = request_for(BROKEN), cut_at
        try:
            appliance.updater(at_boot=False).update()
        except PowerCut:
            cuts += 1
        after_boot = Appliance(home, wanted_error=Unreachable("no network"))
        after_boot.updater(at_boot=True).update()
        assert after_boot.links()[:2] == (OLD.name, OLD.name), f"cut at step {cut_at}"
    assert cuts > 10


def test_old_releases_and_their_runtimes_are_removed_but_never_those_in_use(appliance: Appliance) -> None:
    for version in ("0.1", "0.2", "0.3"):
        make_release(appliance.home, release_of(version).name)
    lonely = appliance.home / "runtimes" / "111111111111"
    lonely.mkdir()
    (appliance.home / "releases" / "half-made").mkdir()
    appliance.request = request_for(NEW)
    appliance.updater(at_boot=True).update()
    left = {path.name for path in (appliance.home / "releases").iterdir()}
    assert {OLD.name, NEW.name} <= left
    assert len(left) == 3, "one is kept beside those in use"
    assert not lonely.exists()
    assert (appliance.home / "runtimes" / RUNTIME).exists()


def test_settings_the_worker_cannot_run_with_leave_it_stopped_for_the_operator(appliance: Appliance) -> None:
    appliance.broken = frozenset({OLD.name})
    report = appliance.updater(at_boot=False).restart()
    assert report.result is UpdateResult.FAILED
    assert appliance.worker is None
    appliance.broken = frozenset()
    assert appliance.updater(at_boot=False).restart().result is UpdateResult.INSTALLED
    assert appliance.worker == OLD.name


def test_a_memory_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    failure = Failure(NEW.name, datetime(2026, 3, 1, tzinfo=UTC))
    memory.remember(failure)
    assert memory.failure() == failure
    (tmp_path / "failure.json").write_text("{")
    assert memory.failure() is None


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "ansible/../../outside"])
def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(InstallFailed, match="no plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "target")


def test_an_archive_with_links_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(InstallFailed, match="no plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "target")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_text("no archive")
    with pytest.raises(InstallFailed, match="cannot be unpacked"):
        unpack(tmp_path / "a.tar", tmp_path / "target")


def test_the_task_that_failed_is_named() -> None:
    told = 'TASK [processor : Install it] ****\nfatal: [localhost]: FAILED! => {"msg": "no wheel"}\n'
    assert failed_task(told, "") == 'processor : Install it: fatal: [localhost]: FAILED! => {"msg": "no wheel"}'
    assert failed_task("", "no such playbook") == "no such playbook"
