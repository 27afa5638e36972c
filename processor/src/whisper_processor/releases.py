"""Releases: the pointer, a release's manifest and an update's report. Each is stored or sent as JSON."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
ReleaseName = Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+]{0,39}-[0-9a-f]{12}$")]
"""`<version>-<first twelve hex digits of the archive's sha256>`."""


class StoredFile(BaseModel):
    """An object in the bucket, and the sha256 it must have."""

    model_config = ConfigDict(frozen=True)

    key: str
    sha256: Sha256


class Release(BaseModel):
    """What can be installed on an appliance: an archive, and the wheelhouse it depends on."""

    model_config = ConfigDict(frozen=True)

    name: ReleaseName
    version: str
    archive: StoredFile
    wheelhouse: StoredFile

    @model_validator(mode="after")
    def _named_by_content(self) -> Self:
        if self.name != release_name(self.version, self.archive.sha256):
            raise ValueError("a release is named by its version and its archive's sha256")
        return self


def release_name(version: str, sha256: str) -> str:
    return f"{version}-{sha256[:12]}"


class ReleaseManifest(BaseModel):
    """`release.json` in a release's archive."""

    model_config = ConfigDict(frozen=True)

    version: str
    wheel: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+\-]+\.whl$")]
    wheel_sha256: Sha256
    wheelhouse_sha256: Sha256


class Wanted(BaseModel):
    """The pointer: which release every appliance should run, and who asked for it."""

    model_config = ConfigDict(frozen=True)

    release: Release
    set_by: str
    set_at: datetime
    previous: ReleaseName | None = None
    """What was wanted before; a rollback without a name returns to it."""


class UpdateResult(StrEnum):
    INSTALLED = "installed"
    UNCHANGED = "unchanged"
    """The wanted release already runs, or none is wanted."""
    SKIPPED = "skipped"
    """This same request failed on this machine before; another deploy tries it again."""
    UNREACHABLE = "unreachable"
    """Parameter Store or the bucket did not respond; the machine keeps the release it has."""
    REFUSED = "refused"
    """The bytes in the bucket are not those the pointer names."""
    FAILED = "failed"
    """It could not be installed or failed its check; the release before it runs."""


class UpdateReport(BaseModel):
    """How an update on an appliance ended: a line in its log, and the reply to the operator."""

    model_config = ConfigDict(frozen=True)

    result: UpdateResult
    reason: str
    wanted: str | None
    current: str | None
    """The release the machine runs now."""
    previous: str | None
    seconds: float
    at: datetime
