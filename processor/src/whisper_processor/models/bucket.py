"""Models in the bucket, under `models/<engine>/<name>/`, from which an appliance fetches those it lacks.

A model is complete once it has its manifest, which `make publish-model` uploads after all the files. Only
operators can write there, so the manifest holds the sha256s that they verified.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.jobs import EngineName
from contracts.keys import MODELS_PREFIX
from whisper_processor.aws.storage import LessonStore
from whisper_processor.errors import PermanentError, TransientError
from whisper_processor.models.catalogue import MARKER, ModelFile, keeper
from whisper_processor.models.fetch import sha256


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    origin: str
    files: dict[str, ModelFile]


def model_key(engine: EngineName, name: str, file: str) -> str:
    return f"{MODELS_PREFIX}{keeper(engine)}/{name}/{file}"


def fetch_from_bucket(
    store: LessonStore, name: str, engine: EngineName, models_dir: Path, on_bytes: Callable[[int], None]
) -> bool:
    """Install the model in `models_dir`; False when the bucket does not have it.

    A file gets its name only after its sha256 was verified, and the marker comes last. An exception from
    `on_bytes` ends the transfer. Raises TransientError when S3 does not respond or a file differs from the
    manifest, PermanentError for a malformed manifest.
    """
    text = store.read_text(model_key(engine, name, MARKER))
    if text is None:
        return False
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise PermanentError(f"The model {name} in the bucket has a damaged {MARKER}.") from error
    if any(Path(file).name != file or file == MARKER for file in manifest.files):
        raise PermanentError(f"The model {name} in the bucket has a {MARKER} that names files outside its folder.")
    folder = models_dir / keeper(engine) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
            for file, pin in manifest.files.items():
                part = Path(scratch) / file
                store.fetch(model_key(engine, name, file), part, on_bytes)
                if sha256(part) != pin.sha256:
                    raise TransientError(f"{file} of the model {name} does not have the sha256 it should have")
                part.replace(folder / file)
            marker = Path(scratch) / MARKER
            marker.write_text(text)
            marker.replace(folder / MARKER)
    except OSError as error:
        raise TransientError(f"the model {name} could not be stored: {error}") from error
    return True
