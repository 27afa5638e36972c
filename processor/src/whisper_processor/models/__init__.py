"""Model files: the catalogue, the installed ones, and how they are fetched and verified.

A model is a folder `<models_dir>/<engine>/<name>`. It is complete once it has its marker, which is written last,
after the sha256 of every file was verified.
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
