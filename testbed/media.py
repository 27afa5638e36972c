"""The sample lesson, and recordings made with ffmpeg."""

from __future__ import annotations

import subprocess

from ops.settings import REPOSITORY

SAMPLE = REPOSITORY / "samples" / "lesson.flac"


def ffmpeg(*arguments: str) -> bytes:
    """Run ffmpeg; returns what it writes to `-`."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def silence(seconds: float) -> bytes:
    return ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", str(seconds), "-f", "flac", "-")
