"""One run of a contender that is a library or an engine."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import ggml, processes
from bench.accuracy import word_error_rate
from bench.child import Answer, Request
from bench.contenders import Contender, Family
from bench.recordings import Recording
from bench.results import Run
from contracts.jobs import EngineName
from ops.errors import OpsError
from ops.settings import REPOSITORY
from tools.bootstrap import BootstrapError, install_apart
from whisper_processor import models

Say = Callable[[str], None]
BENCH_PYTHON = REPOSITORY / ".local" / "bench-venv" / "bin" / "python"
_MODEL = "base"
# A run that takes this many times its audio's length hangs.
_MOST_REAL_TIME_FACTOR = 3.0
_LEAST_SECONDS = 120.0


def prepare(contender: Contender, models_dir: Path, say: Say) -> Path:
    """The model a contender loads, put in place first. Raises OpsError when it cannot be had."""
    engine = {
        Family.OPENAI_WHISPER: EngineName.OPENAI_WHISPER,
        Family.WHISPER_CPP: EngineName.OPENAI_WHISPER,
        Family.FASTER_WHISPER: EngineName.FASTER_WHISPER,
    }.get(contender.family, contender.engine or EngineName.FASTER_WHISPER)
    try:
        models.fetch(_MODEL, engine, models_dir, None, lambda _text: None)
        path = models.model_path([models_dir], engine, _MODEL)
    except models.ModelError as error:
        raise OpsError(f"{contender.name}: {error}") from error
    if contender.family is not Family.WHISPER_CPP:
        return path
    try:
        install_apart("bench", "whisper.cpp, a peer of make bench")
    except BootstrapError as error:
        raise OpsError(f"{contender.name}: {error}") from error
    weights = REPOSITORY / ".local" / "bench-models" / f"ggml-{_MODEL}.bin"
    if not weights.exists():
        say("whisper.cpp: its weights are made from openai-whisper's")
    return ggml.make(path, weights)


def measure(contender: Contender, recording: Recording, repeat: int, model: Path) -> Run:
    """Transcribe in a fresh process. Raises OpsError when that fails."""
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        folder = Path(place)
        request, answer = folder / "request.json", folder / "answer.json"
        asked = Request(contender=contender, audio=recording.path, model=model, scratch=folder)
        request.write_text(asked.model_dump_json())
        if contender.family is Family.WHISPER_CPP:
            program = [str(BENCH_PYTHON), str(REPOSITORY / "bench" / "whisper_cpp.py")]
        else:
            program = [sys.executable, "-m", "bench.child"]
        timeout = _LEAST_SECONDS + _MOST_REAL_TIME_FACTOR * recording.seconds
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)} | contender.environment()
        used = processes.run([*program, str(request), str(answer)], environment, folder, timeout)
        found = Answer.model_validate_json(answer.read_text())
    return Run(
        recording=recording.name,
        contender=contender.name,
        repeat=repeat,
        audio_seconds=recording.seconds,
        wall_seconds=found.wall_seconds,
        cpu_seconds=used.cpu_seconds,
        peak_rss_bytes=used.peak_rss_bytes,
        load_seconds=found.load_seconds,
        first_result_seconds=found.first_result_seconds,
        word_error_rate=None if recording.reference is None else word_error_rate(recording.reference, found.text),
        characters=len(found.text.strip()),
        invented=not recording.speech,
    )
