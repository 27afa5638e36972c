"""The bucket: recordings and models are read from it, transcripts are written to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from whisper_processor.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# Transfers raise boto3's own errors as well as botocore's.
_UNAVAILABLE = (BotoCoreError, ClientError, Boto3Error, OSError)
_MISSING = {"404", "NoSuchKey", "NotFound"}


class LessonStore:
    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def download(self, key: str, target: Path, max_bytes: int) -> int:
        """Download an object to `target`; returns its size in bytes.

        Raises PermanentError when it is missing, empty or too large, TransientError when S3 does not respond.
        """
        try:
            size = self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"]
            if size == 0:
                raise PermanentError("The uploaded file is empty. Please upload the recording again.")
            if size > max_bytes:
                raise PermanentError(
                    f"The uploaded file is too large: {size / 1e6:.0f} MB, at most {max_bytes / 1e6:.0f} MB."
                )
            self._client.download_file(self._bucket, key, str(target))
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                raise PermanentError(f"The uploaded file was not found: {key}") from error
            raise TransientError(f"S3 did not deliver the file: {error}") from error
        except _UNAVAILABLE as error:
            raise TransientError(f"S3 did not deliver the file: {error}") from error
        if (received := target.stat().st_size) != size:
            raise TransientError(f"S3 delivered {received} of {size} bytes")
        return size

    def read_text(self, key: str) -> str | None:
        """A small object's text; None when it does not exist. Raises TransientError when S3 does not respond."""
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read().decode(errors="replace")
        except ClientError as error:
            if error.response["Error"]["Code"] in _MISSING:
                return None
            raise TransientError(f"S3 did not deliver {key}: {error}") from error
        except _UNAVAILABLE as error:
            raise TransientError(f"S3 did not deliver {key}: {error}") from error

    def fetch(self, key: str, target: Path, on_bytes: Callable[[int], None]) -> None:
        """Download an object that is known to exist. An exception from `on_bytes` ends the transfer."""
        try:
            self._client.download_file(self._bucket, key, str(target), Callback=on_bytes)
        except _UNAVAILABLE as error:
            raise TransientError(f"S3 did not deliver {key}: {error}") from error

    def upload_text(self, key: str, text: str, content_type: str) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=text.encode(), ContentType=f"{content_type}; charset=utf-8"
            )
        except _UNAVAILABLE as error:
            raise TransientError(f"S3 did not take {key}: {error}") from error
