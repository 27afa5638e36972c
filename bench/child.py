"""One transcription in a process of its own: `python -m bench.child REQUEST ANSWER`, both JSON files.

A library is called as its own documentation does. Ours is called as the worker's child calls it. Wall time begins
with the model loaded and the file on disk, and ends with the whole text; so decoding the file is in it.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from ctypes import c_double
from multiprocessing.sharedctypes import RawValue
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from bench.contenders import DEFAULT_ENGINE, Contender, Family
from whisper_processor.settings import Settings


class Request(BaseModel):
    model_config = ConfigDict(frozen=True)

    contender: Contender
    audio: Path
    model: Path
    scratch: Path


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True)

    text: str
    load_seconds: float
    wall_seconds: float
    first_result_seconds: float | None
    """Until the first text could be shown; None when there was none."""


class _Clock:
    """Seconds since it was started, and at which of them the first result was there."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.first: float | None = None
        self.load = 0.0

    def result(self) -> None:
        if self.first is None:
            self.first = self.seconds

    def loaded_late(self, seconds: float) -> None:
        """Of the time that has passed, so much was the model's load."""
        self.load += seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started


def measure(request: Request) -> Answer:
    loading = _Clock()
    transcribe = _LOADERS[request.contender.family](request)
    load_seconds = loading.seconds
    clock = _Clock()
    text = transcribe(clock)
    seconds = clock.seconds
    return Answer(
        text=text,
        # Ours loads its model once it has heard speech: in its stead, of the time that was measured.
        load_seconds=clock.load or load_seconds,
        wall_seconds=seconds - clock.load,
        first_result_seconds=None if clock.first is None else clock.first - clock.load,
    )


Transcribe = Callable[[_Clock], str]


def _openai_whisper(request: Request) -> Transcribe:
    import whisper  # noqa: PLC0415 - each child imports the library it measures, and no other

    model = whisper.load_model(str(request.model))

    def transcribe(clock: _Clock) -> str:
        class Console(io.StringIO):
            def write(self, text: str) -> int:
                if "-->" in text:
                    clock.result()
                return len(text)

        with redirect_stdout(Console()):
            # Its defaults, but for printing each segment once it is found: so the first one is seen.
            return str(model.transcribe(str(request.audio), verbose=True)["text"])

    return transcribe


def _faster_whisper(request: Request) -> Transcribe:
    from faster_whisper import WhisperModel  # noqa: PLC0415

    compute = request.contender.settings.get("compute", "default")
    model = WhisperModel(str(request.model), compute_type=compute, local_files_only=True)

    def transcribe(clock: _Clock) -> str:
        segments, _ = model.transcribe(str(request.audio))
        texts = []
        for segment in segments:
            clock.result()
            texts.append(segment.text)
        return "".join(texts)

    return transcribe


def _ours(request: Request) -> Transcribe:
    from whisper_processor.audio.media import decode  # noqa: PLC0415
    from whisper_processor.engines.base import Options  # noqa: PLC0415
    from whisper_processor.engines.child import Work, transcribe_in_child  # noqa: PLC0415
    from whisper_processor.transcripts.outputs import plain_text  # noqa: PLC0415

    settings = request.contender.settings
    samples = request.scratch / "samples"
    work = Work(
        samples=samples,
        engine=request.contender.engine or DEFAULT_ENGINE,
        model=request.model,
        options=Options(
            beam_size=int(settings.get("beam", _default("whisper_beam_size"))),
            batch_size=int(settings.get("batch", _default("whisper_batch_size"))),
            threads=int(_default("whisper_threads")),
        ),
    )

    def transcribe(clock: _Clock) -> str:
        decode(request.audio, samples, _default("max_audio_seconds"))
        with _progress(clock.result):
            done = transcribe_in_child(work)
        clock.loaded_late(done.model_load_seconds)
        return plain_text(done.transcription)

    return transcribe


def _default(name: str) -> float:
    return float(Settings.model_fields[name].default)


@contextmanager
def _progress(on_first: Callable[[], None]) -> Iterator[None]:
    """Call back when the child's progress, which the worker reads from shared memory, leaves zero."""
    from whisper_processor.engines.child import start_child  # noqa: PLC0415

    fraction = RawValue(c_double, 0.0)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02) and fraction.value == 0:
            pass
        if fraction.value > 0:
            on_first()

    start_child(fraction)
    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        yield
    finally:
        ended.set()
        looking.join()


_LOADERS: dict[Family, Callable[[Request], Transcribe]] = {
    Family.OPENAI_WHISPER: _openai_whisper,
    Family.FASTER_WHISPER: _faster_whisper,
    Family.OURS: _ours,
}


if __name__ == "__main__":
    asked = Request.model_validate_json(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(measure(asked).model_dump_json())
