"""Recordings made on the spot with ffmpeg."""

from __future__ import annotations

import subprocess

from ops.settings import REPOSITORY
from tests.scenarios.chaos.storm_plan import Sentence

SAMPLE = REPOSITORY / "samples" / "lesson.flac"


def ffmpeg(*arguments: str) -> bytes:
    """Run it; what it writes to `-` is returned."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def cut_sample(sentence: Sentence) -> bytes:
    """One sentence of the sample lesson as FLAC."""
    return ffmpeg("-i", str(SAMPLE), "-ss", str(sentence.start), "-to", str(sentence.end), "-f", "flac", "-")


def silence(seconds: float) -> bytes:
    return ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", str(seconds), "-f", "flac", "-")
