"""The catalogue of models (`models.toml`), and the models installed in a directory."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from contracts.jobs import EngineName

MARKER = "verified.json"
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ModelError(Exception):
    """A model is not available; the text is one line that names the available ones."""


class ModelFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    size: int


class Package(BaseModel):
    """A wheel that contains model files, or parts of them, in `folder`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requirement: str
    sha256: Sha256
    folder: str


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: str
    files: dict[str, ModelFile]
    packages: tuple[Package, ...] = ()
    convert_from: str | None = None
    """The faster-whisper model with the same weights."""


def keeper(engine: EngineName) -> EngineName:
    """The engine under whose name the files are stored: openvino builds its graph from faster-whisper's."""
    return EngineName.FASTER_WHISPER if engine is EngineName.OPENVINO else engine


@cache
def catalogue() -> dict[EngineName, dict[str, Model]]:
    document = tomllib.loads((files(__package__) / "models.toml").read_text())
    return {
        EngineName(engine): {name: Model.model_validate(entry) for name, entry in models.items()}
        for engine, models in document.items()
    }


def known(name: str, engine: EngineName) -> Model:
    """The catalogue's entry. Raises ModelError, which names the known models."""
    models = catalogue()[keeper(engine)]
    if name not in models:
        raise ModelError(f"unknown model {name!r} for {engine}; known: {', '.join(sorted(models))}")
    return models[name]


def is_english_only(name: str) -> bool:
    """By OpenAI's naming of models trained on English alone."""
    return name.endswith(".en")


def installed(models_dir: Path, engine: EngineName) -> list[str]:
    """The names of an engine's complete models, sorted."""
    return sorted(marker.parent.name for marker in (models_dir / keeper(engine)).glob(f"*/{MARKER}"))


def model_files(models_dir: Path, engine: EngineName, name: str) -> list[Path]:
    """The files of a complete model, its marker last. Raises ModelError when it is not installed."""
    model_path([models_dir], engine, name)
    folder = models_dir / keeper(engine) / name
    names = json.loads((folder / MARKER).read_text())["files"]
    return [*(folder / file for file in sorted(names)), folder / MARKER]


def model_path(models_dirs: Sequence[Path], engine: EngineName, name: str) -> Path:
    """What the engine loads, from the first directory with the complete model.

    Raises ModelError, which names the installed models, when there is none.
    """
    for folder in (models_dir / keeper(engine) / name for models_dir in models_dirs):
        if (folder / MARKER).exists():
            return folder / f"{name}.pt" if engine is EngineName.OPENAI_WHISPER else folder
    there = sorted({found for models_dir in models_dirs for found in installed(models_dir, engine)})
    raise ModelError(f"The model {name} is not installed for {engine}; installed: {', '.join(there) or 'none'}.")
