"""Wheelhouses: all Python packages of one of the appliance's environments in an archive, built on the build host.

So a bake needs no package index, every machine gets the same bytes, and torch is its CPU build. There are two: the
worker's dependencies, and those of the updater that installs releases.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.errors import OpsError
from ops.settings import REPOSITORY
from tools.bootstrap import TORCH_CPU_INDEX

Say = Callable[[str], None]
REQUIREMENTS = REPOSITORY / "requirements"
PROCESSOR = REPOSITORY / "processor"
_LOCKS = ("processor.lock", "openai-whisper.lock", "torch-needs.lock")
_UPDATER_LOCKS = ("updater.lock",)
_STEADY = {"SOURCE_DATE_EPOCH": "1700000000"}  # wheels' time stamps: the same sources give the same bytes


@dataclass(frozen=True)
class Artefact:
    path: Path
    sha256: str


@dataclass(frozen=True)
class ProcessorWheel(Artefact):
    version: str


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def build_wheelhouse(folder: Path, say: Say) -> Artefact:
    """The worker's dependencies: the engines, and torch in its CPU build."""
    return _build("wheelhouse", _LOCKS, folder, say, torch=True)


def build_updater_wheelhouse(folder: Path, say: Say) -> Artefact:
    """The updater's dependencies: Ansible."""
    return _build("updater", _UPDATER_LOCKS, folder, say, torch=False)


def _build(name: str, locks: Sequence[str], folder: Path, say: Say, *, torch: bool) -> Artefact:
    """Build the archive, unless there is one for exactly these locks. Raises OpsError with pip's message.

    In it: the wheels, and `requirements.txt` with each one's name, version and sha256. The locks' hashes are
    checked when the packages are fetched, the archive's own on the machine.
    """
    sources = [REQUIREMENTS / lock for lock in (*locks, *(["torch.txt"] if torch else []))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    archive = folder / f"{name}-{digest[:12]}.tar"
    if archive.exists():
        say(f"wheelhouse {archive.name} is in place")
        return Artefact(archive, sha256(archive))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheels-") as scratch:
        wheels = Path(scratch)
        for lock in locks:
            say(f"wheels of {lock}")
            # `wheel`, not `download`: openai-whisper comes as source and is built here, once.
            _pip("wheel", *_by_hash(lock), "--wheel-dir", scratch, "--no-build-isolation", environment=_STEADY)
        if torch:
            say("torch, CPU build")
            _torch(scratch)
        listed = [_requirement(wheel) for wheel in sorted(wheels.glob("*.whl"))]
        (wheels / "requirements.txt").write_text("\n".join(listed) + "\n")
        pack({path.name: path for path in wheels.iterdir()}, archive)
    say(f"wheelhouse {archive.name}: {len(listed)} packages, {archive.stat().st_size / 1e6:.0f} MB")
    return Artefact(archive, sha256(archive))


def build_processor(folder: Path, source: Path = PROCESSOR) -> ProcessorWheel:
    """Build the worker's wheel; the same sources give the same bytes. Raises OpsError."""
    version = tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".processor-") as scratch:
        # A copy: setuptools would put what an earlier build left in `build` into the wheel as well.
        copy = Path(scratch) / "processor"
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        arguments = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
        _pip(*arguments, str(copy), environment=_STEADY)
    wheel = folder / f"whisper_processor-{version}-py3-none-any.whl"
    return ProcessorWheel(wheel, sha256(wheel), version)


def _by_hash(lock: str) -> Sequence[str]:
    return "--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS / lock)


def _torch(scratch: str) -> None:
    """From the same index as tools/bootstrap.py, and for its reasons never from the general one."""
    arguments = ("download", "--no-deps", "--requirement", str(REQUIREMENTS / "torch.txt"), "--dest", scratch)
    try:
        _pip(*arguments, "--index-url", TORCH_CPU_INDEX, "--timeout", "5", "--retries", "0")
    except OpsError:
        _pip(*arguments, "--no-index")


def _pip(*arguments: str, environment: dict[str, str] | None = None) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | (environment or {})
    )
    if result.returncode != 0:
        lines = [line for line in result.stderr.strip().splitlines() if line] or ["it gave no reason"]
        raise OpsError(f"pip {arguments[0]} failed: {lines[-1]}")


def _requirement(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    return f"{re.sub(r'[-_.]+', '-', name).lower()}=={version} --hash=sha256:{sha256(wheel)}"


def pack(files: Mapping[str, Path], archive: Path) -> None:
    """Pack `files`, by their names in it, sorted and without times: the same files give the same bytes."""
    unfinished = archive.with_suffix(".new")
    with tarfile.open(unfinished, "w", format=tarfile.GNU_FORMAT) as tar:
        for name, path in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    unfinished.replace(archive)
