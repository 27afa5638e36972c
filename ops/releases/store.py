"""The releases in the bucket, and the pointer to the one that every appliance should run."""

from __future__ import annotations

import getpass
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError
from pydantic import BaseModel, ValidationError

from contracts.keys import RELEASES_PREFIX, WHEELHOUSES_PREFIX
from contracts.names import WANTED_PARAMETER
from contracts.tags import PROCESSOR_TAG
from ops.aws.connection import Connection, tags_of
from ops.errors import OpsError
from ops.releases.archive import BuiltRelease
from ops.settings import Cloud
from whisper_processor.releases import Release, Wanted

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

Say = Callable[[str], None]
NOT_SAID = "not said yet"
DESCRIPTION = "release.json"
"""Written last, beside each archive: without it a release is incomplete."""
_STEP_BYTES = 64 * 1024**2


@dataclass(frozen=True)
class Published:
    release: Release
    at: datetime


class Runner(BaseModel):
    """An appliance that runs the release."""

    instance_id: str
    state: str


class VersionRow(BaseModel):
    name: str
    published: datetime | None
    """None when the release is only in an image and not in the bucket."""
    wanted: bool
    previous: bool
    """A rollback without a name returns to this release."""
    on: list[Runner]


class Versions(BaseModel):
    wanted: str | None
    set_by: str | None
    set_at: datetime | None
    releases: list[VersionRow]


def publish(aws: Connection, built: BuiltRelease, say: Say) -> None:
    """Upload the release, and its wheelhouse unless the bucket has it. Safe to repeat."""
    release, bucket = built.release, aws.foundation["BucketName"]
    size = built.wheelhouse.path.stat().st_size
    if size_of(aws, bucket, release.wheelhouse.key) == size:
        say(f"its packages are in the bucket: {release.wheelhouse.key}")
    else:
        say(f"uploading its packages, {size / 1e6:.0f} MB, once for all releases that stand on them")
        aws.s3.upload_file(
            str(built.wheelhouse.path), bucket, release.wheelhouse.key, Callback=_every(_STEP_BYTES, size, say)
        )
    aws.s3.upload_file(str(built.archive.path), bucket, release.archive.key)
    description = f"{RELEASES_PREFIX}{release.name}/{DESCRIPTION}"
    aws.s3.put_object(Bucket=bucket, Key=description, Body=release.model_dump_json(indent=2).encode())
    say(f"release {release.name} is in the bucket")


def _every(step: int, total: int, say: Say) -> Callable[[int], None]:
    sent = 0

    counting = threading.Lock()  # parts are sent on threads of their own

    def tell(count: int) -> None:
        nonlocal sent
        with counting:
            if sent // step != (sent + count) // step:
                say(f"  {(sent + count) / 1e6:.0f} of {total / 1e6:.0f} MB")
            sent += count

    return tell


def published(aws: Connection) -> list[Published]:
    """The releases in the bucket, newest first, without those that cannot be read."""
    bucket = aws.foundation["BucketName"]
    found = []
    for page in aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=RELEASES_PREFIX):
        for entry in page.get("Contents", []):
            if entry["Key"].endswith(f"/{DESCRIPTION}"):
                text = aws.s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
                try:
                    found.append(Published(Release.model_validate_json(text), entry["LastModified"]))
                except ValidationError:
                    continue
    return sorted(found, key=lambda one: one.at, reverse=True)


def find_release(releases: Sequence[Published], asked: str) -> Release:
    """Find a release by its name, or by its version if only one has it. Raises OpsError."""
    matching = [one.release for one in releases if asked in {one.release.name, one.release.version}]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = ", ".join(release.name for release in matching)
        raise OpsError(f"several releases have the version {asked}: name one of {names}")
    there = ", ".join(one.release.name for one in releases) or "none"
    raise OpsError(f"no release {asked} is in the bucket; there: {there}")


def read_wanted(aws: Connection) -> Wanted | None:
    """The pointer to the wanted release. Raises OpsError when it cannot be read."""
    try:
        text = aws.ssm.get_parameter(Name=WANTED_PARAMETER)["Parameter"]["Value"]
    except aws.ssm.exceptions.ParameterNotFound:
        return None
    try:
        return Wanted.model_validate_json(text)
    except ValidationError as error:
        raise OpsError(f"{WANTED_PARAMETER} cannot be read: run `make deploy-processor`") from error


def set_wanted(aws: Connection, release: Release, before: Wanted | None) -> Wanted:
    """Make the release the wanted one. Doing so again keeps the release that a rollback goes to."""
    previous = None
    if before is not None:
        previous = before.previous if before.release.name == release.name else before.release.name
    wanted = Wanted(release=release, set_by=getpass.getuser(), set_at=datetime.now(UTC), previous=previous)
    write_wanted(aws, wanted)
    return wanted


def write_wanted(aws: Connection, wanted: Wanted | None) -> None:
    if wanted is not None:
        value = wanted.model_dump_json()
        aws.ssm.put_parameter(Name=WANTED_PARAMETER, Value=value, Type="String", Overwrite=True)
        return
    try:
        aws.ssm.delete_parameter(Name=WANTED_PARAMETER)
    except aws.ssm.exceptions.ParameterNotFound:
        return


def prune(aws: Connection, kept: int, running: Collection[str], say: Say) -> None:
    """Delete old releases, except the wanted, the previous, those that machines run, and the `kept` newest."""
    bucket, wanted = aws.foundation["BucketName"], read_wanted(aws)
    there = published(aws)
    used = {*running, *([wanted.release.name, wanted.previous] if wanted else [])}
    gone = to_prune([one.release.name for one in there], used, kept)
    for name in gone:
        folder = f"{RELEASES_PREFIX}{name}/"
        keys = [
            folder + DESCRIPTION,
            *(key for key in _keys(aws, bucket, folder) if not key.endswith(DESCRIPTION)),
        ]
        for key in keys:
            aws.s3.delete_object(Bucket=bucket, Key=key)
        say(f"old release {name} is deleted from the bucket")
    needed = {one.release.wheelhouse.key for one in there if one.release.name not in gone}
    needed |= {wanted.release.wheelhouse.key} if wanted else set()
    for key in sorted(set(_keys(aws, bucket, WHEELHOUSES_PREFIX)) - needed):
        aws.s3.delete_object(Bucket=bucket, Key=key)
        say(f"{key}, which no release stands on, is deleted from the bucket")


def to_prune(newest_first: Sequence[str], used: Collection[str | None], kept: int) -> list[str]:
    """The releases older than the `kept` newest that nothing uses."""
    return [name for name in newest_first[kept:] if name not in used]


def running_release(instance: InstanceTypeDef) -> str | None:
    """The release that the instance runs, as its worker reported at its last start."""
    return tags_of(instance).get(PROCESSOR_TAG)


def on_processes(aws: Connection) -> bool:
    """Whether the machines are processes that run the checkout, on which nothing can be installed."""
    return aws.settings.cloud is Cloud.LOCAL and aws.settings.local_machine == "process"


def versions(aws: Connection) -> Versions:
    wanted, there = read_wanted(aws), published(aws)
    on: dict[str, list[Runner]] = {}
    for instance in aws.instances():
        runner = Runner(instance_id=instance["InstanceId"], state=instance["State"]["Name"])
        on.setdefault(running_release(instance) or NOT_SAID, []).append(runner)
    times = {one.release.name: one.at for one in there}
    names = [*times, *sorted(set(on) - set(times))]
    return Versions(
        wanted=wanted.release.name if wanted else None,
        set_by=wanted.set_by if wanted else None,
        set_at=wanted.set_at if wanted else None,
        releases=[
            VersionRow(
                name=name,
                published=times.get(name),
                wanted=wanted is not None and name == wanted.release.name,
                previous=wanted is not None and name == wanted.previous,
                on=on.get(name, []),
            )
            for name in names
        ],
    )


def size_of(aws: Connection, bucket: str, key: str) -> int | None:
    """An object's size in bytes; None when there is none."""
    try:
        return aws.s3.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
            return None
        raise


def _keys(aws: Connection, bucket: str, prefix: str) -> list[str]:
    pages = aws.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
