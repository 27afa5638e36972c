"""faster-whisper: CTranslate2 with the same OpenAI weights, int8 on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from faster_whisper import BatchedInferencePipeline, WhisperModel

from whisper_processor.engines.base import (
    SAMPLE_RATE,
    Options,
    ReportProgress,
    Samples,
    Segment,
    Transcription,
    Word,
    refuse_unknown_language,
)
from whisper_processor.engines.cues import split


class FasterWhisper:
    def __init__(self, model: Path, threads: int) -> None:
        self._model = WhisperModel(
            str(model), device="auto", compute_type="int8", cpu_threads=threads, local_files_only=True
        )

    def transcribe(self, samples: Samples, options: Options, report: ReportProgress) -> Transcription:
        refuse_unknown_language(options.language, self._model.supported_languages)
        arguments: dict[str, Any] = {
            "task": options.task.value,
            "language": options.language,
            "beam_size": options.beam_size,
            "vad_filter": True,
        }
        batched = options.batch_size > 1
        if batched:
            # Whisper's own timestamps must stay off here: a window of a batch is decoded once, and what follows
            # an early end-of-segment timestamp in it would be lost (a whole sentence of the sample was). The
            # times come from aligning the words instead.
            segments, info = BatchedInferencePipeline(self._model).transcribe(
                samples, batch_size=options.batch_size, word_timestamps=True, **arguments
            )
        else:
            segments, info = self._model.transcribe(samples, word_timestamps=options.word_timestamps, **arguments)
        duration = len(samples) / SAMPLE_RATE
        done: list[Segment] = []
        for found in segments:  # a generator: the work happens here
            report(min(1.0, found.end / duration))
            words = tuple(
                Word(start=w.start, end=w.end, text=w.word, probability=w.probability) for w in found.words or ()
            )
            segment = Segment(
                start=found.start,
                end=found.end,
                text=found.text.strip(),
                mean_log_probability=found.avg_logprob,
                words=words,
            )
            done.extend(split(segment) if batched else [segment])
        if not options.word_timestamps:
            done = [segment.model_copy(update={"words": ()}) for segment in done]
        return Transcription(language=info.language if done else None, segments=tuple(done))
