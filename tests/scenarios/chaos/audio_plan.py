"""The corpus of odd audio: one row a file, made on the spot, with the end it must come to. Pure but for ffmpeg."""

from __future__ import annotations

import gzip
import json
import re
import struct
import tempfile
import wave
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from random import Random
from urllib.parse import quote_plus

from contracts.jobs import JobStatus
from contracts.keys import audio_key
from testbed.media import ffmpeg, silence
from tests.scenarios.chaos.media import cut_sample
from tests.scenarios.chaos.stage import Row
from tests.scenarios.chaos.storm_plan import OWNER, SENTENCES, SPEECH_ERROR_RATE, error_rate

MAX_SECONDS = 7200
MAX_BYTES = 3_000_000
"""The limits this part gives the worker; its own defaults would make the corpus gigabytes."""

SPEECH = SENTENCES[1]
SPEECH_SECONDS = SPEECH.end - SPEECH.start
NOT_AUDIO = r"is not a recording"
NO_SOUND = r"holds no sound"

Make = Callable[[], bytes]


@dataclass(frozen=True)
class Completes:
    seconds: float
    """Length of what is decoded, to the second."""
    text: str | None = ""
    """None: whatever can be made out of a damaged recording."""
    error_rate: float = SPEECH_ERROR_RATE

    def __str__(self) -> str:
        said = {None: "any text", "": "no text"}.get(self.text, "the sentence")
        return f"completed, {self.seconds:.0f} s, {said}"


@dataclass(frozen=True)
class Fails:
    reason: str
    """A pattern of the job's error message."""

    def __str__(self) -> str:
        return f"failed, {self.reason!r}"


@dataclass(frozen=True)
class Case:
    what: str
    make: Make
    end: Completes | Fails
    name: str = "lesson.flac"
    """The last part of the key."""
    notified: bool = False
    """Told by S3's notification alone, in which the key is URL-encoded."""
    short: bool = False
    """Also in the short version."""


def rows(*, short: bool) -> list[Case]:
    return [case for case in _CASES if case.short or not short]


def key_of(number: int, case: Case) -> str:
    return audio_key(OWNER, job_id(number), case.name)


def job_id(number: int) -> str:
    return f"audio-{number:03}"


def message_of(number: int, case: Case) -> str:
    key = key_of(number, case)
    if not case.notified:
        return json.dumps({"jobId": job_id(number), "s3Key": key})
    record = {"eventName": "ObjectCreated:CompleteMultipartUpload", "s3": {"object": {"key": quote_plus(key)}}}
    return json.dumps({"Records": [record]})


def judge(case: Case, row: Row | None, text: str | None) -> str | None:
    """What differs from the table; None when nothing does."""
    if row is None:
        return "there is no row"
    found = f"it is {row.status}, {row.duration_seconds} s, {text!r}, {row.error or 'no reason'}"
    match case.end:
        case Completes(seconds, said, most):
            right = (
                row.status is JobStatus.COMPLETED
                and text is not None
                and abs((row.duration_seconds or 0) - seconds) <= 1
                and (said is None or (error_rate(said, text) <= most if said else text == ""))
            )
        case Fails(reason):
            right = row.status is JobStatus.FAILED and text is None and bool(re.search(reason, row.error))
    return None if right else f"should be {case.end}, but {found}"


# --- How the files are made ---

_PICTURE = ("-f", "lavfi", "-i", f"testsrc=size=64x64:rate=5:duration={SPEECH_SECONDS}")
_TONE = ("-f", "lavfi", "-i", "sine=frequency=440:duration=3")


def _encode(suffix: str, *arguments: str, before: tuple[str, ...] = ()) -> Make:
    """The sentence, encoded by ffmpeg; `before` is a further input."""

    def make() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder) / "source.flac", Path(folder) / f"target.{suffix}"
            source.write_bytes(cut_sample(SPEECH))
            ffmpeg(*before, "-i", str(source), *arguments, str(target))
            return target.read_bytes()

    return make


def _lavfi(source: str, *arguments: str) -> Make:
    return lambda: ffmpeg("-f", "lavfi", "-i", source, *arguments, "-")


def _constant(content: bytes) -> Make:
    return lambda: content


def _cut(make: Make, share: float) -> Make:
    """The first part of a file, as a broken upload leaves it."""

    def cut() -> bytes:
        whole = make()
        return whole[: int(len(whole) * share)]

    return cut


def _spoilt(make: Make) -> bytes:
    """Zeros over the middle tenth."""
    whole = make()
    start, length = len(whole) * 45 // 100, len(whole) // 10
    return whole[:start] + bytes(length) + whole[start + length :]


def _wav(frames: bytes, rate: int, width: int) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(frames)
    return file.getvalue()


def _lying_wav() -> bytes:
    """One second that says of itself it is 37 hours, as a recorder leaves it that lost its power."""
    whole = bytearray(_wav(bytes(32_000), 16_000, 2))
    struct.pack_into("<I", whole, 40, 0xFFFFFFFF)
    return bytes(whole)


def _no_channels() -> bytes:
    whole = bytearray(_wav(bytes(32_000), 16_000, 2))
    struct.pack_into("<H", whole, 22, 0)
    return bytes(whole)


def _subtitles() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        text, target = Path(folder) / "text.srt", Path(folder) / "text.mkv"
        text.write_text("1\n00:00:00,000 --> 00:00:02,000\nGood morning.\n")
        ffmpeg("-i", str(text), str(target))
        return target.read_bytes()


def _noise(size: int) -> bytes:
    return Random(7).randbytes(size)


def _sentence() -> bytes:
    return cut_sample(SPEECH)


def _silent() -> bytes:
    return silence(2)


_HEARD = Completes(SPEECH_SECONDS, SPEECH.text)
# At 8 kHz the synthetic voice loses its consonants, to the reference engine too; real voices keep them.
_TELEPHONE = Completes(SPEECH_SECONDS, SPEECH.text, error_rate=0.7)

# --- The table ---

_KEYS = {
    "..": "up/../../down.flac",
    "spaces": "my  lesson .flac",
    "+": "one+one = two.flac",
    "unicode": "Grüße 授業 \U0001f393.flac",
    "percent-encoding": "100%25 %2e%2e%2f é%20.flac",
    "URL and shell characters": "a?b#c&d;e'f\"g$(h)|i.flac",
}

_CASES: list[Case] = [
    *(Case(f"key: {what}", _silent, Completes(2), name, short=True) for what, name in _KEYS.items()),
    *(
        Case(f"key: {what}, notified", _silent, Completes(2), name, notified=True, short=True)
        for what, name in _KEYS.items()
    ),
    # Extensions and containers
    Case("FLAC called PDF", _sentence, _HEARD, "homework.pdf", short=True),
    Case("MP3 called WAV", _encode("mp3"), _HEARD, "lesson.wav"),
    Case("no extension", _sentence, _HEARD, "lesson"),
    Case("MP4 film", _encode("mp4", "-c:v", "mpeg4", before=_PICTURE), _HEARD, "film.mp4", short=True),
    Case("QuickTime film", _encode("mov", "-c:v", "mpeg4", before=_PICTURE), _HEARD, "film.mov"),
    Case("WebM film", _encode("webm", before=_PICTURE), _HEARD, "film.webm"),
    Case("AVI film", _encode("avi", before=_PICTURE), _HEARD, "film.avi"),
    Case("MPEG transport stream", _encode("ts", before=_PICTURE), _HEARD, "film.ts"),
    Case("Windows Media", _encode("wma"), _HEARD, "lesson.wma"),
    Case("Apple Lossless", _encode("m4a", "-c:a", "alac"), _HEARD, "lesson.m4a"),
    Case("Opus", _encode("opus"), _HEARD, "lesson.opus"),
    Case("Vorbis", _encode("ogg", "-c:a", "libvorbis"), _HEARD, "lesson.ogg"),
    Case("AAC stream", _encode("aac"), _HEARD, "lesson.aac"),
    Case("AIFF", _encode("aiff"), _HEARD, "lesson.aiff"),
    Case("Core Audio", _encode("caf"), _HEARD, "lesson.caf"),
    Case("Sun AU, mu-law", _encode("au", "-c:a", "pcm_mulaw", "-ar", "8000"), _TELEPHONE, "lesson.au"),
    # Rates, channels, sample formats
    Case("8 kHz", _encode("wav", "-ar", "8000"), _TELEPHONE, short=True),
    Case("48 kHz stereo", _encode("wav", "-ar", "48000", "-ac", "2"), _HEARD, short=True),
    Case("192 kHz", _encode("flac", "-ar", "192000"), _HEARD),
    Case("5.1 channels", _encode("flac", "-ac", "6"), _HEARD),
    Case("mono u8", _encode("wav", "-c:a", "pcm_u8"), _HEARD),
    Case("24 bit", _encode("wav", "-c:a", "pcm_s24le"), _HEARD),
    Case("32-bit float", _encode("wav", "-c:a", "pcm_f32le"), _HEARD, short=True),
    Case("64-bit float", _encode("wav", "-c:a", "pcm_f64le"), _HEARD),
    Case("ADPCM", _encode("wav", "-c:a", "adpcm_ima_wav"), _HEARD),
    Case("two tracks, speech first", _encode("mka", "-map", "1", "-map", "0", before=_TONE), _HEARD),
    Case("two tracks, speech second", _encode("mka", "-map", "0", "-map", "1", before=_TONE), Completes(3)),
    # Nothing said
    Case("silence", _silent, Completes(2), short=True),
    Case("a tone", _lavfi("sine=frequency=440:duration=3", "-f", "flac"), Completes(3)),
    Case("ten milliseconds", _lavfi("anullsrc=r=16000:cl=mono", "-t", "0.01", "-f", "flac"), Completes(0)),
    # Damaged
    Case("zero bytes", _constant(b""), Fails(r"is empty"), short=True),
    Case(
        "WAV header only", _cut(lambda: _wav(bytes(32_000), 16_000, 2), 44 / 32_044), Fails(NOT_AUDIO), short=True
    ),
    Case("stream of zero length", lambda: _wav(b"", 16_000, 2), Fails(NOT_AUDIO), short=True),
    Case("no channels", _no_channels, Fails(NOT_AUDIO)),
    Case("MP3 cut in half", _cut(_encode("mp3"), 0.5), Completes(SPEECH_SECONDS / 2, None), short=True),
    Case("FLAC cut in half", _cut(_sentence, 0.5), Completes(SPEECH_SECONDS / 2, None)),
    Case("MP4 cut before its index", _cut(_encode("m4a"), 0.5), Fails(NOT_AUDIO), short=True),
    Case("FLAC with a hole", lambda: _spoilt(_sentence), Completes(SPEECH_SECONDS, None)),
    Case("a length that lies", _lying_wav, Completes(1), short=True),
    # No recordings
    Case("text", _constant(b"Notes of the lesson. " * 200), Fails(NOT_AUDIO), "notes.mp3", short=True),
    Case("web page", _constant(b"<!doctype html><title>404</title>" * 50), Fails(NOT_AUDIO), "lesson.mp3"),
    Case(
        "picture",
        _lavfi("testsrc=size=64x64", "-frames:v", "1", "-f", "image2pipe", "-c:v", "png"),
        Fails(NOT_AUDIO),
    ),
    Case(
        "film without sound",
        _encode("mp4", "-map", "0", "-c:v", "mpeg4", before=_PICTURE),
        Fails(NO_SOUND),
        "film.mp4",
    ),
    Case("subtitles only", _subtitles, Fails(NO_SOUND), "film.mkv"),
    Case("noise, as of an encrypted file", lambda: _noise(200_000), Fails(NOT_AUDIO), "lesson.mp3", short=True),
    Case("zeros", _constant(bytes(100_000)), Fails(NOT_AUDIO), "lesson.mp3"),
    # Files that name others
    Case("concat file", _constant(b"ffconcat version 1.0\nfile '/etc/hostname'\n"), Fails(NOT_AUDIO), short=True),
    Case("playlist", _constant(b"#EXTM3U\n#EXTINF:3,\nfile:///etc/hostname\n"), Fails(NOT_AUDIO), "lesson.m3u8"),
    Case("SDP", _constant(b"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n"), Fails(NOT_AUDIO), "lesson.sdp"),
    # Too much
    Case("too large", lambda: _noise(MAX_BYTES + 1), Fails(r"too large"), short=True),
    Case(
        "two hours and ten minutes",
        _lavfi("anullsrc=r=8000:cl=mono", "-t", "7800", "-f", "flac"),
        Fails(r"too long"),
    ),
    Case(
        "an hour and fifty minutes", _lavfi("anullsrc=r=8000:cl=mono", "-t", "6600", "-f", "flac"), Completes(6600)
    ),
    Case("bomb: WAV of 27 hours at 1 Hz", lambda: _wav(bytes(100_000), 1, 1), Fails(r"too long")),
    Case(
        "bomb: FLAC of 27 hours at 1 Hz",
        _lavfi("anullsrc=r=1:cl=mono", "-t", "100000", "-f", "flac"),
        Fails(r"too long"),
    ),
    Case("bomb: gzip", lambda: gzip.compress(bytes(50_000_000)), Fails(NOT_AUDIO), "lesson.mp3.gz"),
]
