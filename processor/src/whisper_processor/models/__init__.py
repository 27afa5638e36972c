"""Model files: which there are, where they lie, how they are fetched and verified.

A model is a folder `<models_dir>/<engine>/<name>`. It is complete once its marker is there, which is written
last, after every file's sha256 was found right.
"""

from whisper_processor.models.bucket import fetch_from_bucket, model_key
from whisper_processor.models.catalogue import (
    ModelError,
    catalogue,
    installed,
    is_english_only,
    known,
    model_files,
    model_path,
)
from whisper_processor.models.fetch import fetch

__all__ = [
    "ModelError",
    "catalogue",
    "fetch",
    "fetch_from_bucket",
    "installed",
    "is_english_only",
    "known",
    "model_files",
    "model_key",
    "model_path",
]
