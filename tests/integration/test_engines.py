"""Each engine with the real base model on the sample lesson and on sounds that are no speech."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import ctranslate2
import jiwer
import numpy as np
import pytest

from contracts.jobs import EngineName
from ops.settings import REPOSITORY
from whisper_processor.audio.media import Recording, decode, read_samples
from whisper_processor.audio.sound import SAMPLE_RATE, Samples
from whisper_processor.audio.speech import has_speech, speech_seconds, windows
from whisper_processor.engines import load_engine
from whisper_processor.engines.base import Engine, Options, Transcription
from whisper_processor.engines.child import ChildTranscriber, Work
from whisper_processor.engines.choice import Precision
from whisper_processor.engines.cores import Lanes, lanes_for
from whisper_processor.engines.openvino import Encoder
from whisper_processor.errors import PermanentError
from whisper_processor.models import model_path
from whisper_processor.transcripts.outputs import plain_text

pytestmark = pytest.mark.slow

LESSON_TEXT = (REPOSITORY / "samples" / "lesson.txt").read_text()
EACH = pytest.mark.parametrize("name", list(EngineName))

WINDOWED = [name for name in EngineName if name is not EngineName.OPENAI_WHISPER]

Load = Callable[[EngineName], Engine]


def normal(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def word_errors(reference: str, text: str) -> float:
    return float(jiwer.wer(normal(reference), normal(text)))


@pytest.fixture(scope="module")
def lesson_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("lesson") / "samples"
    decode(REPOSITORY / "samples" / "lesson.flac", target, 600)
    return target


@pytest.fixture(scope="module")
def lesson(lesson_file: Path) -> Samples:
    return read_samples(lesson_file)


@pytest.fixture(scope="module")
def engines(models_dir: Path) -> dict[EngineName, Engine]:
    return {name: load_engine(name, model_path([models_dir], name, "base"), 0) for name in EngineName}


@pytest.fixture(scope="module")
def transcriptions(engines: dict[EngineName, Engine], lesson: Samples) -> dict[EngineName, Transcription]:
    return {name: engine.transcribe(lesson, Options(), lambda _done: None) for name, engine in engines.items()}


@EACH
def test_the_lesson_is_transcribed(name: EngineName, transcriptions: dict[EngineName, Transcription]) -> None:
    assert word_errors(LESSON_TEXT, plain_text(transcriptions[name])) <= 0.1
    assert transcriptions[name].language == "en"


def test_a_model_is_loaded_while_the_recording_is_decoded_and_its_time_is_reported_once(
    models_dir: Path, lesson_file: Path
) -> None:
    model = model_path([models_dir], EngineName.FASTER_WHISPER, "base")
    work = Work(samples=lesson_file, engine=EngineName.FASTER_WHISPER, model=model, options=Options())
    with ChildTranscriber() as child:
        child.prepare(work.engine, work.model, work.options.threads)
        told = [child.transcribe(work, 600, lambda _done: None).model_load_seconds for _ in range(2)]
    assert told[0] > 0
    assert told[1] == 0


@pytest.mark.parametrize("name", WINDOWED)
def test_each_window_is_encoded_once_by_threads_that_stay(
    name: EngineName, engines: dict[EngineName, Engine], lesson: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines[name]
    states = engine._states  # type: ignore[attr-defined]
    encoded: list[Samples] = []
    threads: set[int] = set()

    def counted(features: Sequence[Samples]) -> Iterable[Samples]:
        encoded.extend(features)
        threads.add(threading.get_ident())
        return states(features)

    monkeypatch.setattr(engine, "_states", counted)
    for _ in range(2):
        engine.transcribe(lesson, Options(), lambda _done: None)
    assert len(encoded) == 2 * len(list(windows(lesson))), "what told the language is not encoded again"
    assert len(threads) <= lanes_for(0).count


@pytest.mark.parametrize("name", WINDOWED)
def test_the_engines_agree(name: EngineName, transcriptions: dict[EngineName, Transcription]) -> None:
    reference = plain_text(transcriptions[EngineName.OPENAI_WHISPER])
    assert word_errors(reference, plain_text(transcriptions[name])) <= 0.1


@EACH
def test_segments_are_in_order_within_the_lesson(
    name: EngineName, transcriptions: dict[EngineName, Transcription], lesson: Samples
) -> None:
    segments = transcriptions[name].segments
    assert all(0 <= s.start < s.end <= len(lesson) / SAMPLE_RATE + 1 for s in segments)
    assert all(one.start <= two.start for one, two in pairwise(segments))
    assert all(s.end - s.start <= 15 for s in segments), "a subtitle's length, not a whole window"
    assert not any(s.words for s in segments), "only when they are asked for"


@EACH
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


@pytest.mark.parametrize("name", WINDOWED)
def test_one_window_at_a_time_gives_the_same_words(
    name: EngineName, engines: dict[EngineName, Engine], lesson: Samples
) -> None:
    result = engines[name].transcribe(lesson, Options(batch_size=1), lambda _done: None)
    assert word_errors(LESSON_TEXT, plain_text(result)) <= 0.1


@pytest.mark.parametrize("name", WINDOWED)
def test_a_recording_read_from_disk_gives_what_one_in_memory_gives(
    name: EngineName, engines: dict[EngineName, Engine], lesson_file: Path, lesson: Samples
) -> None:
    """More than one block of voice activity detection, more than one window, more than one lane."""
    twice = lesson_file.with_name("twice")
    twice.write_bytes(lesson_file.read_bytes() * 2)
    engine = engines[name]
    streamed = engine.transcribe(Recording(twice), Options(), lambda _done: None)
    whole = engine.transcribe(np.concatenate([lesson, lesson]), Options(), lambda _done: None)
    assert streamed == whole
    assert word_errors(f"{LESSON_TEXT} {LESSON_TEXT}", plain_text(streamed)) <= 0.1


@pytest.mark.parametrize("name", WINDOWED)
def test_a_language_whisper_does_not_know_is_refused(
    name: EngineName, engines: dict[EngineName, Engine], lesson: Samples
) -> None:
    with pytest.raises(PermanentError, match="xx"):
        engines[name].transcribe(lesson, Options(language="xx"), lambda _done: None)


@pytest.mark.parametrize("multiply_in", list(Precision))
def test_the_graph_computes_what_ctranslate2s_encoder_does(models_dir: Path, multiply_in: Precision) -> None:
    """In each precision that a machine may choose, whatever this CPU supports."""
    model = model_path([models_dir], EngineName.OPENVINO, "base")
    features = np.random.default_rng(1).normal(0, 0.4, (80, 3000)).astype(np.float32)
    exact = ctranslate2.models.Whisper(str(model), device="cpu", compute_type="float32")
    wanted = np.array(exact.encode(ctranslate2.StorageView.from_array(features[None])))[0]
    found = Encoder(model / "model.bin", Lanes(1, 1), multiply_in)(features)
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 0.1


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


@pytest.mark.parametrize("name", WINDOWED)
def test_silence_that_reaches_the_engine_gives_nothing(
    name: EngineName, engines: dict[EngineName, Engine]
) -> None:
    silence = np.zeros(20 * SAMPLE_RATE, np.float32)
    result = engines[name].transcribe(silence, Options(), lambda _done: None)
    assert result == Transcription(language=None, segments=())


MEMORY = """
import json, resource, sys
from pathlib import Path
from contracts.jobs import EngineName
from whisper_processor.engines import load_engine
from whisper_processor.engines.base import Options
from whisper_processor.audio.media import Recording

engine = load_engine(EngineName(sys.argv[1]), Path(sys.argv[2]), 2)
peaks = []
for path in sys.argv[3:]:
    engine.transcribe(Recording(Path(path)), Options(batch_size=1), lambda _done: None)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", WINDOWED)
def test_memory_does_not_grow_with_the_recording_nor_with_jobs(
    name: EngineName, models_dir: Path, lesson_file: Path, tmp_path: Path
) -> None:
    """Two lessons, four, then an hour with silence: 230 MB as float32, had it been read at once."""
    lesson = lesson_file.read_bytes()
    short, longer, hour = tmp_path / "short", tmp_path / "longer", tmp_path / "hour"
    short.write_bytes(2 * lesson)
    longer.write_bytes(4 * lesson)
    hour.write_bytes(2 * lesson)
    os.truncate(hour, 3600 * SAMPLE_RATE * 2)
    model = model_path([models_dir], name, "base")
    command = [sys.executable, "-c", MEMORY, name, str(model), *map(str, (short, short, longer, hour))]
    first, *later = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert max(later) <= 1.25 * first
