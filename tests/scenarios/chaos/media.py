"""Recordings cut from the sample lesson."""

from __future__ import annotations

from testbed.media import SAMPLE, ffmpeg
from tests.scenarios.chaos.storm_plan import Sentence


def cut_sample(sentence: Sentence) -> bytes:
    """One sentence of the sample lesson as FLAC."""
    return ffmpeg("-i", str(SAMPLE), "-ss", str(sentence.start), "-to", str(sentence.end), "-f", "flac", "-")
