"""A release of the processor as one archive: the worker's wheel and the roles that install it.

Built once, the same sources give the same bytes, and it is named by its version and its own sha256.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from contracts.keys import RELEASES_PREFIX, WHEELHOUSES_PREFIX
from ops.releases.wheelhouse import PROCESSOR, Artefact, ProcessorWheel, build_processor, pack, sha256
from ops.settings import REPOSITORY
from whisper_processor.releases import Release, ReleaseManifest, StoredFile, release_name

ANSIBLE = REPOSITORY / "ansible"
FOLDER = REPOSITORY / ".local" / "wheelhouse"
_PARTS = ("ansible.cfg", "release.yml", "roles/whisper", "roles/processor")
ARCHIVE_NAME = "release.tar"


@dataclass(frozen=True)
class BuiltRelease:
    """A release, and the paths of its parts on this machine."""

    release: Release
    archive: Artefact
    processor: ProcessorWheel
    wheelhouse: Artefact


def build_release(wheelhouse: Artefact, *, source: Path = PROCESSOR, folder: Path = FOLDER) -> BuiltRelease:
    """Build the wheel of `source` and pack it with its roles. Raises OpsError naming what pip said."""
    wheel = build_processor(folder, source)
    manifest = ReleaseManifest(
        version=wheel.version,
        wheel=wheel.path.name,
        wheel_sha256=wheel.sha256,
        wheelhouse_sha256=wheelhouse.sha256,
    )
    archive = folder / f"release-{wheel.sha256[:12]}.tar"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".release-") as scratch:
        described = Path(scratch) / "release.json"
        described.write_text(manifest.model_dump_json(indent=2) + "\n")
        files = {"release.json": described, wheel.path.name: wheel.path}
        files |= {f"ansible/{path.relative_to(ANSIBLE).as_posix()}": path for path in _playbook()}
        pack(files, archive)
    packed = Artefact(archive, sha256(archive))
    name = release_name(wheel.version, packed.sha256)
    release = Release(
        name=name,
        version=wheel.version,
        archive=StoredFile(key=f"{RELEASES_PREFIX}{name}/{ARCHIVE_NAME}", sha256=packed.sha256),
        wheelhouse=StoredFile(key=f"{WHEELHOUSES_PREFIX}{wheelhouse.sha256[:12]}.tar", sha256=wheelhouse.sha256),
    )
    return BuiltRelease(release, packed, wheel, wheelhouse)


def _playbook() -> Iterator[Path]:
    for part in _PARTS:
        path = ANSIBLE / part
        yield from (p for p in path.rglob("*") if p.is_file()) if path.is_dir() else (path,)
