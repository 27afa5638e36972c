"""One deploy at a time, from any machine: a lock object in the bucket that only one deploy can create.

S3 creates it only where there is none (`If-None-Match: *`), and replaces it only when nobody did in between
(`If-Match`). A deploy that died leaves the lock behind; it expires, and the next deploy takes it over.
"""

from __future__ import annotations

import getpass
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError
from pydantic import BaseModel, ValidationError

from contracts.keys import DEPLOY_LOCK_KEY
from ops.aws.connection import Connection
from ops.errors import OpsError

Say = Callable[[str], None]
LASTS = timedelta(minutes=30)
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "404"}


class Holder(BaseModel):
    """Who deploys."""

    token: str
    by: str
    what: str
    since: datetime
    until: datetime


@dataclass
class DeployLock:
    aws: Connection
    holder: Holder
    etag: str

    def renew(self) -> None:
        """Extend the lock before the next machine. Raises OpsError when another deploy has taken it."""
        self.holder = self.holder.model_copy(update={"until": datetime.now(UTC) + LASTS})
        etag = _put(self.aws, self.holder, replaces=self.etag)
        if etag is None:
            raise OpsError("another deploy has taken over, because this one took too long: see `make versions`")
        self.etag = etag


@contextmanager
def deploying(aws: Connection, what: str, say: Say, now: datetime | None = None) -> Iterator[DeployLock]:
    """Hold the lock. Raises OpsError when another deploy has it, with its user, its start and its latest end."""
    lock = _take(aws, what, say, now or datetime.now(UTC))
    try:
        yield lock
    finally:
        found = _read(aws)
        if found is not None and found[0] is not None and found[0].token == lock.holder.token:
            aws.s3.delete_object(Bucket=_bucket(aws), Key=DEPLOY_LOCK_KEY)


def _take(aws: Connection, what: str, say: Say, now: datetime) -> DeployLock:
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    holder = Holder(token=uuid.uuid4().hex, by=by, what=what, since=now, until=now + LASTS)
    etag = _put(aws, holder)
    if etag is None:
        found = _read(aws)
        if found is None:  # it was given back just now
            etag = _put(aws, holder)
        else:
            other, there = found
            if other is not None and now < other.until:
                raise OpsError(
                    f"{other.by} runs {other.what} since {other.since:%H:%M:%S} UTC: wait for its end;"
                    f" if it died, this works again after {other.until:%H:%M:%S} UTC"
                )
            told = f"of {other.by} since {other.since:%Y-%m-%d %H:%M} UTC" if other else "that cannot be read"
            say(f"a deploy {told} never ended: its lock is taken over")
            etag = _put(aws, holder, replaces=there)
    if etag is None:
        raise OpsError("another deploy began in this moment: try again after it")
    return DeployLock(aws, holder, etag)


def _put(aws: Connection, holder: Holder, replaces: str | None = None) -> str | None:
    """Write the lock. Returns its ETag, or None when another deploy was quicker."""
    body = holder.model_dump_json().encode()
    bucket = _bucket(aws)
    try:
        if replaces is None:
            return aws.s3.put_object(Bucket=bucket, Key=DEPLOY_LOCK_KEY, Body=body, IfNoneMatch="*")["ETag"]
        return aws.s3.put_object(Bucket=bucket, Key=DEPLOY_LOCK_KEY, Body=body, IfMatch=replaces)["ETag"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _TAKEN | _MISSING:
            return None
        raise


def _read(aws: Connection) -> tuple[Holder | None, str] | None:
    """The lock's holder and its ETag; None when nobody holds it."""
    try:
        found = aws.s3.get_object(Bucket=_bucket(aws), Key=DEPLOY_LOCK_KEY)
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING:
            return None
        raise
    with suppress(ValidationError):
        return Holder.model_validate_json(found["Body"].read()), found["ETag"]
    return None, found["ETag"]


def _bucket(aws: Connection) -> str:
    return aws.foundation["BucketName"]
