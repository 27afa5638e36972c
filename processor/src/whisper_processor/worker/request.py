"""What to run for a job: the message's own choices, and this machine's defaults for the rest."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.jobs import EngineName, Task
from whisper_processor.engines.base import Options
from whisper_processor.engines.choice import Choice
from whisper_processor.errors import PermanentError
from whisper_processor.messages import JobMessage
from whisper_processor.models import is_english_only
from whisper_processor.settings import Settings


@dataclass(frozen=True)
class Request:
    engine: EngineName
    engine_reason: str
    """For the log."""
    model: str
    options: Options


def resolve_request(message: JobMessage | None, settings: Settings, usual: Choice) -> Request:
    """`usual` is the engine for jobs that name none; None for a message without choices.

    Raises PermanentError for another language than English with an English-only model: the model would transcribe
    it as English, wrongly and without a warning.
    """
    message = message or JobMessage(s3Key="-")
    chosen = Choice(message.engine, "the job asks for it") if message.engine else usual
    model = message.model or settings.whisper_model
    other_language = message.language not in (None, "en") or message.task is Task.TRANSLATE
    if is_english_only(model) and other_language:
        raise PermanentError(f"The model {model} knows English only; ask for another model for this language.")
    return Request(
        engine=chosen.engine,
        engine_reason=chosen.reason,
        model=model,
        options=Options(
            task=message.task,
            language=message.language,
            word_timestamps=message.wordTimestamps,
            beam_size=settings.whisper_beam_size,
            batch_size=settings.whisper_batch_size,
            threads=settings.whisper_threads,
        ),
    )
