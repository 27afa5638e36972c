"""Models in the bucket, under `models/<engine>/<name>/`: what an appliance lacks it fetches from there.

The folder's manifest is the marker of a complete model, put there by `make publish-model` after all its files.
Only operators can write there, so what the manifest says is what they verified.
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
    """Make the model complete in `models_dir`; False when the bucket does not have it.

    Files appear under their names only after their sha256 was found right, the marker last. An exception out of
    `on_bytes` ends the transfer. Raises TransientError when S3 does not serve or a file is not what the manifest
    says, PermanentError for a manifest that cannot be read.
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
