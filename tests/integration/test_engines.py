"""Both engines with the real base model on the sample lesson and on sounds that are no speech."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np
import pytest

from ops.settings import REPOSITORY
from whisper_processor.contracts import EngineName
from whisper_processor.engines import load_engine
from whisper_processor.engines.base import SAMPLE_RATE, Engine, Options, Samples, Transcription
from whisper_processor.media import decode, read_samples
from whisper_processor.models import model_path
from whisper_processor.outputs import plain_text
from whisper_processor.speech import has_speech, speech_seconds

LESSON_TEXT = (REPOSITORY / "samples" / "lesson.txt").read_text()
BOTH = pytest.mark.parametrize("name", list(EngineName))

Load = Callable[[EngineName], Engine]


def normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def word_errors(reference: str, text: str) -> float:
    return float(jiwer.wer(normal(reference), normal(text)))


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    target = tmp_path_factory.mktemp("lesson") / "samples"
    decode(REPOSITORY / "samples" / "lesson.flac", target, 600)
    return read_samples(target)


@pytest.fixture(scope="module")
def engines(models_dir: Path) -> dict[EngineName, Engine]:
    return {name: load_engine(name, model_path([models_dir], name, "base"), 0) for name in EngineName}


@pytest.fixture(scope="module")
def transcriptions(engines: dict[EngineName, Engine], lesson: Samples) -> dict[EngineName, Transcription]:
    return {name: engine.transcribe(lesson, Options(), lambda _done: None) for name, engine in engines.items()}


@BOTH
def test_the_lesson_is_transcribed(name: EngineName, transcriptions: dict[EngineName, Transcription]) -> None:
    assert word_errors(LESSON_TEXT, plain_text(transcriptions[name])) <= 0.1
    assert transcriptions[name].language == "en"


def test_the_engines_agree(transcriptions: dict[EngineName, Transcription]) -> None:
    fast, reference = (plain_text(transcriptions[name]) for name in EngineName)
    assert word_errors(reference, fast) <= 0.1


@BOTH
def test_segments_are_in_order_within_the_lesson(
    name: EngineName, transcriptions: dict[EngineName, Transcription], lesson: Samples
) -> None:
    segments = transcriptions[name].segments
    assert all(0 <= s.start < s.end <= len(lesson) / SAMPLE_RATE + 1 for s in segments)
    assert all(one.start <= two.start for one, two in pairwise(segments))
    assert all(s.end - s.start <= 15 for s in segments), "a subtitle's length, not a whole window"
    assert not any(s.words for s in segments), "only when they are asked for"


@BOTH
def test_words_when_asked_and_progress(
    name: EngineName, engines: dict[EngineName, Engine], lesson: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[float] = []
    result = engines[name].transcribe(lesson, Options(word_timestamps=True), told.append)
    words = [word for segment in result.segments for word in segment.words]
    assert word_errors(LESSON_TEXT, " ".join(word.text for word in words)) <= 0.1
    assert all(word.start <= word.end and 0 <= word.probability <= 1 for word in words)
    assert told == sorted(told)
    assert all(0 <= fraction <= 1 for fraction in told)
    assert told[-1] > 0.8
    assert capsys.readouterr().out == "", "stdout is the worker's JSON log"


def test_one_window_at_a_time_gives_the_same_words(engines: dict[EngineName, Engine], lesson: Samples) -> None:
    result = engines[EngineName.FASTER_WHISPER].transcribe(lesson, Options(batch_size=1), lambda _done: None)
    assert word_errors(LESSON_TEXT, plain_text(result)) <= 0.1


def test_speech_is_found(lesson: Samples) -> None:
    assert speech_seconds(lesson) > 0.7 * len(lesson) / SAMPLE_RATE


def noise(amplitude: float) -> Samples:
    return (amplitude * np.random.default_rng(1).standard_normal(20 * SAMPLE_RATE)).astype(np.float32)


def tone(frequency: float) -> Samples:
    time = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(20 * SAMPLE_RATE, np.float32), noise(0.003), noise(0.05), tone(440), np.zeros(0, np.float32)],
    ids=["silence", "faint noise", "noise", "tone", "nothing at all"],
)
def test_no_speech_is_found_in_what_is_none(samples: Samples) -> None:
    assert not has_speech(samples)


def test_silence_that_reaches_the_engine_gives_nothing(engines: dict[EngineName, Engine]) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    result = engines[EngineName.FASTER_WHISPER].transcribe(silence, Options(), lambda _done: None)
    assert result == Transcription(language=None, segments=())
