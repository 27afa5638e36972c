"""The image that machines are launched from: named in `.env`, or the one baked last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import ClientError

from contracts.names import IMAGE_PARAMETER
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.settings import REPOSITORY, Cloud

WORK = REPOSITORY / ".local" / "image"
PLACEHOLDER = "ami-0123456789abcdef0"
"""The local cloud's machine that is a process has no image."""


@dataclass(frozen=True)
class Baked:
    """What `make image` made."""

    image_id: str
    root: Path
    inputs: str
    seconds: float


def record(aws: Connection, image_id: str) -> None:
    aws.ssm.put_parameter(Name=IMAGE_PARAMETER, Value=image_id, Type="String", Overwrite=True)


def image_id(aws: Connection) -> str:
    """The image to launch: IMAGE_ID in .env, else what was baked last. Raises OpsError when there is none."""
    settings = aws.settings
    if settings.image_id:
        return settings.image_id
    if settings.cloud is Cloud.LOCAL:
        baked = current_baked()
        return baked.image_id if baked else PLACEHOLDER
    try:
        return aws.ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ParameterNotFound":
            raise OpsError("there is no image yet: run `make ami`, or set IMAGE_ID in .env") from error
        raise


def current_baked() -> Baked | None:
    """What `make image` made last on this machine."""
    try:
        found = json.loads((WORK / "current.json").read_text())
    except FileNotFoundError:
        return None
    baked = Baked(found["image_id"], Path(found["root"]), found["inputs"], found["seconds"])
    return baked if baked.root.is_dir() else None
