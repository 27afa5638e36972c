"""faster-whisper: CTranslate2 with the same OpenAI weights, int8 on the CPU, encoder and decoder."""

from __future__ import annotations

from pathlib import Path

from whisper_processor.engines.cores import lanes_for
from whisper_processor.engines.windowed import Windowed


class FasterWhisper(Windowed):
    def __init__(self, model: Path, threads: int) -> None:
        super().__init__(model, lanes_for(threads))
