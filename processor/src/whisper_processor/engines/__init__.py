"""Speech recognition engines behind one interface. Each is imported only when it is used."""

from __future__ import annotations

from pathlib import Path

from contracts.jobs import EngineName
from whisper_processor.engines.base import Engine
from whisper_processor.errors import PermanentError


def load_engine(name: EngineName, model: Path, threads: int) -> Engine:
    """Load a model from its path; nothing is downloaded or hashed. PermanentError for an engine not installed."""
    try:
        match name:
            case EngineName.FASTER_WHISPER:
                from whisper_processor.engines.faster_whisper import FasterWhisper  # noqa: PLC0415

                return FasterWhisper(model, threads)
            case EngineName.OPENVINO:
                from whisper_processor.engines.openvino import OpenVINO  # noqa: PLC0415

                return OpenVINO(model, threads)
            case EngineName.OPENAI_WHISPER:
                from whisper_processor.engines.openai_whisper import OpenAIWhisper  # noqa: PLC0415

                return OpenAIWhisper(model, threads)
    except ImportError as error:
        raise PermanentError(f"The engine {name} is not installed on this appliance.") from error
