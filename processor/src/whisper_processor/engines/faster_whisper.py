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
)


class FasterWhisper:
    def __init__(self, model: Path, threads: int) -> None:
        self._model = WhisperModel(
            str(model), device="auto", compute_type="int8", cpu_threads=threads, local_files_only=True
        )

    def transcribe(self, samples: Samples, options: Options, report: ReportProgress) -> Transcription:
        arguments: dict[str, Any] = {
            "task": options.task.value,
            "language": options.language,
            "beam_size": options.beam_size,
            "word_timestamps": options.word_timestamps,
            "vad_filter": True,
        }
        if options.batch_size > 1:
            # Timestamps cut the 30 s windows into segments of a subtitle's size.
            segments, info = BatchedInferencePipeline(self._model).transcribe(
                samples, batch_size=options.batch_size, without_timestamps=False, **arguments
            )
        else:
            segments, info = self._model.transcribe(samples, **arguments)
        duration = len(samples) / SAMPLE_RATE
        done: list[Segment] = []
        for segment in segments:  # a generator: the work happens here
            report(min(1.0, segment.end / duration))
            done.append(
                Segment(
                    start=segment.start,
                    end=segment.end,
                    text=segment.text.strip(),
                    mean_log_probability=segment.avg_logprob,
                    words=tuple(
                        Word(start=w.start, end=w.end, text=w.word.strip(), probability=w.probability)
                        for w in segment.words or ()
                    ),
                )
            )
        return Transcription(language=info.language if done else None, segments=tuple(done))
