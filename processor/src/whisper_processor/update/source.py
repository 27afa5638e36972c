"""Where releases come from: the pointer in Parameter Store, and the bucket. Nothing but what it names is used."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from contracts.names import PARAMETER_PREFIX, WANTED_PARAMETER
from whisper_processor.releases import StoredFile, Wanted

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_ssm import SSMClient

_UNAVAILABLE = (BotoCoreError, ClientError, Boto3Error, OSError)


class Unreachable(Exception):
    """AWS did not respond, or an object is missing; a later attempt may succeed."""


class Refused(Exception):
    """The pointer is malformed, or the bytes are not those it names."""


class AwsReleaseSource:
    def __init__(self, parameters: SSMClient, objects: S3Client) -> None:
        self._parameters = parameters
        self._objects = objects

    def wanted(self) -> Wanted | None:
        """The pointer; None when there is none. Raises Unreachable, and Refused for a malformed one."""
        text = self._parameter(WANTED_PARAMETER)
        if text is None:
            return None
        try:
            return Wanted.model_validate_json(text)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(map(str, problem["loc"]))
            raise Refused(f"{WANTED_PARAMETER} cannot be read: {where}: {problem['msg']}") from error

    def fetch(self, file: StoredFile, target: Path) -> None:
        """Download the file and keep it only if its sha256 is right. Raises Unreachable, Refused."""
        bucket = os.environ.get("BUCKET") or self._parameter(f"{PARAMETER_PREFIX}/BUCKET")
        if not bucket:
            raise Unreachable("no parameter says which bucket")
        try:
            self._objects.download_file(bucket, file.key, str(target))
            with target.open("rb") as written:
                sha256 = hashlib.file_digest(written, "sha256").hexdigest()
        except _UNAVAILABLE as error:
            target.unlink(missing_ok=True)
            raise Unreachable(f"s3://{bucket}/{file.key} was not delivered: {error}") from error
        if sha256 != file.sha256:
            target.unlink()
            raise Refused(f"s3://{bucket}/{file.key} has sha256 {sha256}, not {file.sha256}")

    def _parameter(self, name: str) -> str | None:
        try:
            return self._parameters.get_parameter(Name=name)["Parameter"]["Value"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return None
            raise Unreachable(f"Parameter Store: {error}") from error
        except BotoCoreError as error:
            raise Unreachable(f"Parameter Store: {error}") from error
