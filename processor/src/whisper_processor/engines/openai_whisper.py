"""openai-whisper: OpenAI's own implementation on PyTorch, with its defaults. It is the reference."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import tqdm
import whisper

from whisper_processor.audio.sound import Sound
from whisper_processor.engines.base import (
    Options,
    ReportProgress,
    Segment,
    Transcription,
    Word,
    refuse_unknown_language,
)
from whisper_processor.engines.cores import usable_cores


class OpenAIWhisper:
    def __init__(self, model: Path, threads: int) -> None:
        torch.set_num_threads(threads or usable_cores())
        self._model = whisper.load_model(str(model), device="cpu")

    def transcribe(self, sound: Sound, options: Options, report: ReportProgress) -> Transcription:
        refuse_unknown_language(options.language, whisper.tokenizer.LANGUAGES)
        with _progress(report):
            result = self._model.transcribe(
                sound[:],  # it needs the whole recording at once
                task=options.task.value,
                language=options.language,
                word_timestamps=options.word_timestamps,
                fp16=False,
                verbose=None,  # False would print the detected language into the worker's JSON log
            )
        segments = tuple(_segment(found) for found in result["segments"])
        return Transcription(language=result["language"] if segments else None, segments=segments)


def _segment(found: dict[str, Any]) -> Segment:
    return Segment(
        start=found["start"],
        end=found["end"],
        text=found["text"].strip(),
        mean_log_probability=found["avg_logprob"],
        words=tuple(
            Word(start=w["start"], end=w["end"], text=w["word"], probability=w["probability"])
            for w in found.get("words", ())
        ),
    )


@contextmanager
def _progress(report: ReportProgress) -> Iterator[None]:
    """openai-whisper reports progress to a tqdm bar only; during a call, that bar is this one."""

    class Bar(tqdm.tqdm):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            answer: bool | None = super().update(n)
            if self.total:
                report(min(1.0, self.n / self.total))
            return answer

    original = tqdm.tqdm
    tqdm.tqdm = Bar
    try:
        yield
    finally:
        tqdm.tqdm = original


class _Nowhere:
    def write(self, _text: str) -> None: ...

    def flush(self) -> None: ...
