"""Put a model into the bucket. Appliances that lack it fetch it from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from contracts.jobs import EngineName
from ops.aws.connection import Connection
from whisper_processor.models import model_files, model_key


def publish(aws: Connection, name: str, engine: EngineName, models_dir: Path, say: Callable[[str], None]) -> None:
    """Upload a complete model, its marker last, so that appliances never see half of one. Safe to repeat.

    Raises ModelError, naming the installed models, when it is not complete here.
    """
    for file in model_files(models_dir, engine, name):
        say(f"{file.name}: {file.stat().st_size / 1e6:.0f} MB")
        key = model_key(engine, name, file.name)
        aws.s3.upload_file(str(file), aws.foundation["BucketName"], key)
