"""What schools upload, made with ffmpeg on the spot: each file with its expected outcome."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from whisper_processor.audio.media import decode, probe, read_samples
from whisper_processor.audio.sound import SAMPLE_RATE
from whisper_processor.errors import PermanentError

TONE = ["-f", "lavfi", "-i", "sine=frequency=440:duration=3"]
PICTURE = ["-f", "lavfi", "-i", "color=size=64x64:duration=3"]


def ffmpeg(*arguments: str) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("phone.wav", [*TONE, "-ar", "8000"]),
        ("studio.flac", [*TONE, "-ar", "48000", "-ac", "2"]),
        ("lesson.mp3", TONE),
        ("lesson.ogg", TONE),
        ("lesson.m4a", TONE),
        ("film.mp4", [*PICTURE, *TONE]),
        ("film.webm", [*PICTURE, *TONE]),
        ("two tracks.mkv", [*TONE, *TONE, "-map", "0", "-map", "1"]),
        ("ünï+cödé %20.wav", TONE),
    ],
)
def test_every_usual_recording_becomes_three_seconds_of_mono(
    name: str, arguments: list[str], tmp_path: Path
) -> None:
    source, target = tmp_path / name, tmp_path / "samples"
    ffmpeg(*arguments, str(source))
    assert decode(source, target, 3600) == pytest.approx(3, abs=0.15)
    samples = read_samples(target)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(3 * SAMPLE_RATE, rel=0.05)
    assert 0.05 < float(np.abs(samples).max()) <= 1


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    ffmpeg(*TONE, "-f", "wav", str(tmp_path / "lesson.pdf"))
    assert decode(tmp_path / "lesson.pdf", tmp_path / "samples", 3600) == pytest.approx(3, abs=0.1)


def test_a_truncated_recording_gives_what_can_be_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp3"
    ffmpeg(*TONE, str(whole))
    cut = tmp_path / "cut.mp3"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 1 < decode(cut, tmp_path / "samples", 3600) < 2.5


@pytest.mark.parametrize("content", [b"", b"RIFF", b"plain text " * 500, bytes(10_000)], ids=len)
def test_a_file_that_is_no_recording_is_refused_in_plain_words(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "upload"
    source.write_bytes(content)
    with pytest.raises(PermanentError, match=r"not a recording|no sound"):
        decode(source, tmp_path / "samples", 3600)


def test_headers_without_sound_are_refused(tmp_path: Path) -> None:
    ffmpeg(*TONE, str(tmp_path / "whole.wav"))
    (tmp_path / "upload").write_bytes((tmp_path / "whole.wav").read_bytes()[:44])
    with pytest.raises(PermanentError):
        decode(tmp_path / "upload", tmp_path / "samples", 3600)


def test_a_film_without_sound_is_refused_as_such(tmp_path: Path) -> None:
    ffmpeg(*PICTURE, str(tmp_path / "silent.mp4"))
    with pytest.raises(PermanentError, match="no sound"):
        probe(tmp_path / "silent.mp4")


def test_a_recording_beyond_the_limit_is_refused_without_decoding_it_all(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "600", str(tmp_path / "long.flac"))
    with pytest.raises(PermanentError, match="too long"):
        decode(tmp_path / "long.flac", tmp_path / "samples", 60)
    assert (tmp_path / "samples").stat().st_size < 70 * 2 * SAMPLE_RATE


def test_a_playlist_cannot_make_the_worker_read_other_files(tmp_path: Path) -> None:
    ffmpeg(*TONE, str(tmp_path / "other.wav"))
    listing = tmp_path / "upload"
    for text in (
        f"ffconcat version 1.0\nfile '{tmp_path / 'other.wav'}'\n",
        f"#EXTM3U\n#EXTINF:3,\nfile://{tmp_path / 'other.wav'}\n",
    ):
        listing.write_text(text)
        with pytest.raises(PermanentError):
            decode(listing, tmp_path / "samples", 3600)
