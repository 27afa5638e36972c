"""From any file a school uploads to samples an engine can read: ffprobe inspects it, ffmpeg decodes it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np

from whisper_processor.audio.sound import SAMPLE_RATE, Samples
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.waiting import TICK_SECONDS, Tick, no_tick

# A playlist or a concat file could make ffmpeg read other files or hosts: only self-contained formats pass.
_CONTAINERS = "aac,ac3,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,opus,w64,wav"
_SAFE_INPUT = ["-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS]
_NOT_AUDIO = "The file is not a recording that can be read (it may be damaged or of another type)."
_NO_AUDIO = "The file holds no sound."
_PROBE_SECONDS = 60
_BYTES_PER_SECOND = 2 * SAMPLE_RATE


def probe(source: Path, tick: Tick = no_tick) -> None:
    """Raise PermanentError, with a text for the support team, unless the file holds an audio track."""
    command = ["ffprobe", "-v", "error", *_SAFE_INPUT, "-show_streams", "-of", "json", f"file:{source}"]
    probing = _run(command, _PROBE_SECONDS, tick)
    if probing.returncode != 0:
        raise PermanentError(_NOT_AUDIO)
    if not any(stream.get("codec_type") == "audio" for stream in json.loads(probing.stdout).get("streams", [])):
        raise PermanentError(_NO_AUDIO)


def decode(source: Path, target: Path, max_seconds: float, tick: Tick = no_tick) -> float:
    """Decode the first audio track of `source` to raw 16-bit mono at SAMPLE_RATE in `target`.

    Returns its length in seconds, measured on the decoded samples because headers may be wrong. Raises
    PermanentError, with a text for the support team, when there is no sound or more than `max_seconds` of it.
    An exception from `tick` ends ffmpeg and propagates.
    """
    probe(source, tick)
    limit = max_seconds + 1  # one second more shows that it is too long
    decoding = _run(
        [
            *("ffmpeg", "-nostdin", "-v", "error", *_SAFE_INPUT, "-i", f"file:{source}"),
            *("-map", "0:a:0", "-vn", "-sn", "-dn", "-t", str(limit)),
            *("-ac", "1", "-ar", str(SAMPLE_RATE), "-f", "s16le", "-y", f"file:{target}"),
        ],
        # Decoding runs at hundreds of times real time; slower than ten times suggests a file made to waste time.
        max(300.0, max_seconds / 10),
        tick,
    )
    if b"No space left" in decoding.stderr:
        raise TransientError("the disk is full")
    seconds = target.stat().st_size / _BYTES_PER_SECOND if target.exists() else 0.0
    if seconds == 0.0:
        raise PermanentError(_NOT_AUDIO)
    if seconds > max_seconds:
        raise PermanentError(f"The recording is too long: more than {max_seconds / 3600:.1f} hours.")
    return seconds  # of a truncated file, as much as could be read


class Recording:
    """The samples that `decode` wrote, read from disk slice by slice as float32 from -1 to 1 (a `Sound`).

    Only the slice is held in memory, however long the recording is.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._length = path.stat().st_size // 2

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice, /) -> Samples:
        start, stop, step = part.indices(self._length)
        if step != 1:
            raise ValueError("a recording is read in one piece")
        raw = np.fromfile(self._path, dtype="<i2", count=max(0, stop - start), offset=2 * start)
        return raw.astype(np.float32) / np.float32(32768.0)


def read_samples(path: Path) -> Samples:
    """All the samples that `decode` wrote."""
    return Recording(path)[:]


def _run(command: list[str], timeout: float, tick: Tick) -> subprocess.CompletedProcess[bytes]:
    deadline = time.monotonic() + timeout
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=TICK_SECONDS)
                    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
                except subprocess.TimeoutExpired as error:
                    if time.monotonic() > deadline:
                        raise PermanentError(_NOT_AUDIO) from error
                tick()
        except BaseException:
            process.kill()
            raise
