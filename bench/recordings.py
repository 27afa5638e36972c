"""What is transcribed: a folder of recordings with their texts beside them, and sounds that are no speech."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from ops.errors import OpsError
from ops.settings import REPOSITORY

_SOUNDS = {".mp3", ".flac", ".ogg", ".wav", ".m4a", ".opus"}
_NO_SPEECH = "no-speech"
_DEFAULT = REPOSITORY.parent / "shared" / "eval"
SAMPLE = REPOSITORY / "samples" / "lesson.flac"


class Recording(BaseModel):
    """One file. `reference` is None where nobody wrote down what is said."""

    model_config = ConfigDict(frozen=True)

    name: str
    path: Path
    seconds: float
    reference: str | None
    speech: bool = True
    """False: whatever is transcribed of it was invented."""


def find(place: Path | None) -> list[Recording]:
    """The recordings of `place` (a folder or one file), shortest first; without it the default's, or the sample.

    The text of `x.mp3` is `x.txt`; a name with `no-speech` in it is a sound without speech. Raises OpsError for a
    place that has none.
    """
    if place is None:
        place = _DEFAULT if _DEFAULT.is_dir() else SAMPLE
    paths = sorted(place.iterdir()) if place.is_dir() else [place]
    sounds = [path for path in paths if path.suffix.lower() in _SOUNDS]
    if not sounds or not all(path.is_file() for path in sounds):
        raise OpsError(f"no recordings in {place}: BENCH_AUDIO names a folder of them, or one file")
    return sorted((_read(path) for path in sounds), key=lambda recording: recording.seconds)


def _read(path: Path) -> Recording:
    text = path.with_suffix(".txt")
    speech = _NO_SPEECH not in path.stem
    reference = text.read_text() if speech and text.is_file() else None
    return Recording(
        name=path.stem, path=path.resolve(), seconds=duration(path), reference=reference, speech=speech
    )


def duration(path: Path) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", str(path)]
    probing = subprocess.run(command, capture_output=True, text=True, check=False)
    if probing.returncode != 0:
        raise OpsError(f"{path} cannot be read: {probing.stderr.strip() or 'not a recording'}")
    return float(json.loads(probing.stdout)["format"]["duration"])


def silences(folder: Path) -> list[Recording]:
    """A minute of digital silence and one of faint noise, made in `folder`."""
    made = []
    for name, source in (
        ("silence", "anullsrc=r=16000:cl=mono"),
        ("faint-noise", "anoisesrc=r=16000:a=0.003:seed=1"),
    ):
        path = folder / f"{name}.flac"
        if not path.exists():
            _ffmpeg("-f", "lavfi", "-i", source, "-t", "60", str(path))
        made.append(Recording(name=name, path=path, seconds=60.0, reference=None, speech=False))
    return made


def repeated(recording: Recording, folder: Path, times: float) -> Recording:
    """The recording so many times over, as one FLAC file in `folder`; the last time as much of it as is left."""
    name = f"{recording.name} x{times:g}"
    path = folder / f"{recording.name}-x{times:g}.flac"
    if not path.exists():
        seconds = recording.seconds * times
        unfinished = path.with_suffix(".part.flac")
        loops = ["-stream_loop", "-1", "-i", str(recording.path), "-t", f"{seconds:.3f}"]
        _ffmpeg(*loops, "-ac", "1", "-ar", "16000", str(unfinished))
        unfinished.replace(path)
    whole = int(times) if recording.reference and times == int(times) else 0
    reference = " ".join([recording.reference or ""] * whole) or None
    return Recording(name=name, path=path, seconds=duration(path), reference=reference)


def chosen(recordings: Sequence[Recording], names: Sequence[str]) -> list[Recording]:
    """Those named, or all. Raises OpsError for a name that is not there."""
    there = {recording.name: recording for recording in recordings}
    if unknown := [name for name in names if name not in there]:
        raise OpsError(f"no recording {', '.join(unknown)}; there are {', '.join(there)}")
    return [there[name] for name in names] if names else list(recordings)


def _ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments], check=True)
