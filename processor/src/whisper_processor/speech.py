"""Whether anybody speaks: Silero's voice detector, which faster-whisper carries with it."""

from __future__ import annotations

from faster_whisper.vad import get_speech_timestamps

from whisper_processor.engines.base import SAMPLE_RATE, Samples


def speech_seconds(samples: Samples) -> float:
    """Seconds of detected speech. Whisper invents text for silence, so none is transcribed without any."""
    stretches = get_speech_timestamps(samples, sampling_rate=SAMPLE_RATE)
    return float(sum(s["end"] - s["start"] for s in stretches)) / SAMPLE_RATE


def has_speech(samples: Samples) -> bool:
    return speech_seconds(samples) > 0
