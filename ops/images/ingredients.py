"""What goes into an image: the release, the updater that installs releases, and the models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.errors import OpsError
from ops.releases.archive import FOLDER, BuiltRelease, build_release
from ops.releases.wheelhouse import Artefact, build_updater_wheelhouse, build_wheelhouse
from ops.settings import REPOSITORY, OpsSettings
from whisper_processor import models
from whisper_processor.models.catalogue import MARKER

Say = Callable[[str], None]
SAMPLE = REPOSITORY / "samples" / "lesson.flac"
MODEL = "base"
"""The model in every image, in each engine's format."""


@dataclass(frozen=True)
class Ingredients:
    built: BuiltRelease
    updater: Artefact
    """The wheelhouse of the updater, which installs releases."""
    models: Sequence[Mapping[str, Any]]

    @property
    def model_sha256(self) -> str:
        return str(self.models[0]["files"]["model.bin"])

    def variables(self) -> dict[str, Any]:
        """The Ansible roles' variables for what the build host provides."""
        built = self.built
        return {
            "whisper_wheelhouse": str(built.wheelhouse.path),
            "whisper_wheelhouse_sha256": built.wheelhouse.sha256,
            "whisper_sample": str(SAMPLE),
            "whisper_models": list(self.models),
            "processor_wheel": str(built.processor.path),
            "processor_wheel_sha256": built.processor.sha256,
            "processor_release_name": built.release.name,
            "processor_release_sha256": built.archive.sha256,
            "updater_wheelhouse": str(self.updater.path),
            "updater_wheelhouse_sha256": self.updater.sha256,
        }


def gather(settings: OpsSettings, say: Say) -> Ingredients:
    """Build the wheels and fetch the models, verified, on this machine. Raises OpsError."""
    built = build_release(build_wheelhouse(FOLDER, say))
    updater = build_updater_wheelhouse(FOLDER, say)
    described = []
    for engine in models.catalogue():
        try:
            folder = models.fetch(MODEL, engine, settings.models_dir, settings.models_from, say)
        except models.ModelError as error:
            raise OpsError(str(error)) from error
        found = json.loads((folder / MARKER).read_text())["files"]
        files = {name: pin["sha256"] for name, pin in found.items()}
        described.append({"engine": str(engine), "name": MODEL, "source": str(folder), "files": files})
    return Ingredients(built, updater, described)
