"""The interface of all engines, and the result they return."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from contracts.jobs import Task
from whisper_processor.audio.sound import Sound
from whisper_processor.errors import PermanentError

ReportProgress = Callable[[float], None]
"""Called with the fraction done, from 0 to 1, never decreasing."""


class Word(BaseModel):
    model_config = ConfigDict(frozen=True)

    start: float
    end: float
    text: str
    probability: float


class Segment(BaseModel):
    """A stretch of speech. Times are in seconds from the start of the recording."""

    model_config = ConfigDict(frozen=True)

    start: float
    end: float
    text: str
    mean_log_probability: float
    """Mean natural log probability of the segment's tokens (Whisper's avg_logprob)."""
    words: tuple[Word, ...] = ()


class Transcription(BaseModel):
    model_config = ConfigDict(frozen=True)

    language: str | None
    """ISO 639-1 code; None when there is no speech."""
    segments: tuple[Segment, ...]


class Options(BaseModel):
    """A job's options for the engine, and the appliance's own tuning."""

    model_config = ConfigDict(frozen=True)

    task: Task = Task.TRANSCRIBE
    language: str | None = None
    """None: detect."""
    word_timestamps: bool = False
    beam_size: int = 1
    batch_size: int = 4
    threads: int = 0
    """CPU threads; 0 for as many as there are cores."""


def refuse_unknown_language(language: str | None, known: Collection[str]) -> None:
    """Raise PermanentError for a language code Whisper has no token for."""
    if language is not None and language not in known:
        raise PermanentError(f"The language {language} is not one Whisper knows.")


class Engine(Protocol):
    def transcribe(self, sound: Sound, options: Options, report: ReportProgress) -> Transcription:
        """Transcribe a recording in which voice activity detection has found speech."""
        ...


class EngineFactory(Protocol):
    def __call__(self, model_path: Path, threads: int) -> Engine:
        """Load a model from its path; nothing is downloaded or hashed here."""
        ...
