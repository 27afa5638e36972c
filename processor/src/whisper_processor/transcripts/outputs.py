"""The transcript in the formats that schools use: JSON, WebVTT, SubRip and plain text."""

from __future__ import annotations

import json
from dataclasses import dataclass

from whisper_processor.engines.base import Segment, Transcription


@dataclass(frozen=True)
class Output:
    suffix: str
    content_type: str
    text: str


def render(job_id: str, transcription: Transcription, duration: float, confidence: float) -> list[Output]:
    segments = transcription.segments
    document = {
        "job_id": job_id,
        "duration": round(duration, 3),
        "confidence": confidence,
        **transcription.model_dump(mode="json"),
    }
    return [
        Output("json", "application/json", json.dumps(document, ensure_ascii=False)),
        Output("vtt", "text/vtt", "WEBVTT\n\n" + "\n".join(_cue(s, ".") for s in segments)),
        Output(
            "srt",
            "application/x-subrip",
            "\n".join(f"{n}\n{_cue(s, ',')}" for n, s in enumerate(segments, 1)),
        ),
        Output("txt", "text/plain", plain_text(transcription) + "\n"),
    ]


def plain_text(transcription: Transcription) -> str:
    return " ".join(text for segment in transcription.segments if (text := segment.text.strip()))


def _cue(segment: Segment, separator: str) -> str:
    # "-->" inside a cue would end it early in both formats.
    text = segment.text.strip().replace("-->", "->")
    return f"{_clock(segment.start, separator)} --> {_clock(segment.end, separator)}\n{text}\n"


def _clock(seconds: float, separator: str) -> str:
    milliseconds = round(max(0.0, seconds) * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"
