"""Releases to deploy: copies of the worker's sources, built by the builder that operators use."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ops.releases.archive import BuiltRelease, build_release
from ops.releases.wheelhouse import PROCESSOR, Artefact, sha256

_BROKEN = '\n\ndef has_speech(_sound: object) -> bool:\n    raise RuntimeError("broken on purpose")\n'


@dataclass(frozen=True)
class Variants:
    """Releases with other version numbers, and one that cannot transcribe."""

    wheelhouse: Artefact
    folder: Path

    def other_wheelhouse(self) -> Artefact:
        """The same packages in other bytes: to a machine it is a runtime it does not have."""
        path = self.folder / "other.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(self.wheelhouse.path) as source, tarfile.open(path, "w") as target:
            for member in source:
                content = source.extractfile(member)
                if member.name == "requirements.txt" and content is not None:
                    text = content.read() + b"# packed anew\n"
                    member.size, content = len(text), io.BytesIO(text)
                target.addfile(member, content)
        return Artefact(path, sha256(path))

    def build(self, version: str, *, broken: bool = False, wheelhouse: Artefact | None = None) -> BuiltRelease:
        source = self.folder / version
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        shutil.copytree(PROCESSOR, source, ignore=ignored)
        project = source / "pyproject.toml"
        text, changed = re.subn(r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text())
        assert changed == 1, "processor/pyproject.toml has not just one version"
        project.write_text(text)
        if broken:
            speech = source / "src" / "whisper_processor" / "audio" / "speech.py"
            speech.write_text(speech.read_text() + _BROKEN)
        return build_release(wheelhouse or self.wheelhouse, source=source, folder=self.folder / "built")
