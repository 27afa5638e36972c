"""Package the autoscaler reproducibly: the same source gives the same bytes."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from contracts.keys import AUTOSCALER_PREFIX
from ops.settings import REPOSITORY

AUTOSCALER = REPOSITORY / "lambda" / "autoscaler"
CONTRACTS = REPOSITORY / "contracts"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold: no clock in the bytes


def pack(autoscaler: Path = AUTOSCALER) -> bytes:
    """Zip the Python files of the function and the contracts, sorted, with fixed times and modes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in (autoscaler, CONTRACTS):
            for path in sorted(package.rglob("*.py")):
                entry = zipfile.ZipInfo(path.relative_to(package.parent).as_posix(), _EPOCH)
                entry.external_attr = 0o644 << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, path.read_bytes())
    return buffer.getvalue()


def key_of(archive: bytes) -> str:
    """The archive's key, from a hash of its content: CloudFormation sees a change only when there is one."""
    return f"{AUTOSCALER_PREFIX}{hashlib.sha256(archive).hexdigest()[:16]}.zip"
