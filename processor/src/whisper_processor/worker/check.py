"""The check of a release: transcribe a sample recording the way a lesson is, and write nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from whisper_processor.audio.media import decode
from whisper_processor.engines.child import Transcriber, Work
from whisper_processor.engines.choice import resolve
from whisper_processor.errors import PermanentError
from whisper_processor.models import ModelError
from whisper_processor.models.provider import ModelProvider
from whisper_processor.settings import Settings
from whisper_processor.transcripts.outputs import plain_text
from whisper_processor.worker.request import resolve_request


def check(settings: Settings, models: ModelProvider, transcriber: Transcriber, sample: Path) -> int:
    """The number of words in the sample. The model must be on the machine: none is fetched.

    Raises PermanentError and TransientError, as a lesson would; PermanentError also for a sample without words.
    """
    request = resolve_request(None, settings, resolve(settings.whisper_engine))
    with TemporaryDirectory(dir=settings.work_dir, prefix="check-") as folder:
        samples = Path(folder) / "samples"
        decode(sample, samples, settings.max_audio_seconds)
        try:
            model = models.installed(request.engine, request.model)
        except ModelError as error:
            raise PermanentError(str(error)) from error
        work = Work(samples=samples, engine=request.engine, model=model, options=request.options)
        done = transcriber.transcribe(work, settings.deadline_minimum_seconds, lambda _fraction: None)
    words = len(plain_text(done.transcription).split())
    if words == 0:
        raise PermanentError(f"nothing was heard in {sample}")
    return words
