"""The image that machines are launched from: IMAGE_ID in `.env`, or the last recorded one."""

from __future__ import annotations

from contracts.names import IMAGE_PARAMETER
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.settings import Cloud


def record(aws: Connection, image_id: str) -> None:
    """Record the image to launch from now on."""
    aws.ssm.put_parameter(Name=IMAGE_PARAMETER, Value=image_id, Type="String", Overwrite=True)


def image_id(aws: Connection) -> str:
    """The image to launch: IMAGE_ID in .env, else the last baked one. Raises OpsError when there is none."""
    chosen = aws.settings.image_id or recorded_image_id(aws)
    if chosen is None:
        verb = "up" if aws.settings.cloud is Cloud.LOCAL else "ami"
        raise OpsError(f"there is no image yet: run `make {verb}`, or set IMAGE_ID in .env")
    return chosen


def recorded_image_id(aws: Connection) -> str | None:
    """The last baked image; None before the first bake."""
    try:
        return aws.ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    except aws.ssm.exceptions.ParameterNotFound:
        return None
