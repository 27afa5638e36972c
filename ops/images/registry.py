"""The appliance's AMIs in EC2: list them with what refers to each, and prune those that nothing needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from contracts.tags import IMAGE_PROCESSOR_TAG, IMAGE_REVISION_TAG, ROLE_TAG
from ops.aws.connection import Connection, tags_of
from ops.capacity.image import recorded_image_id

if TYPE_CHECKING:
    from mypy_boto3_autoscaling.type_defs import AutoScalingGroupTypeDef, LaunchTemplateSpecificationTypeDef
    from mypy_boto3_ec2.type_defs import FilterTypeDef, ImageTypeDef

Say = Callable[[str], None]
ROLE_IMAGE = "whisper-image"
"""The role tag of images and their snapshots (`packer/build.pkr.hcl`)."""
KEPT = 2
"""The newest image and the one before it, to roll back to, are kept even if nothing refers to them."""
_UNFINISHED = timedelta(days=1)
"""A younger snapshot without an image may belong to a bake that is still running."""
_OURS: FilterTypeDef = {"Name": f"tag:{ROLE_TAG}", "Values": [ROLE_IMAGE]}
_GONE = {"shutting-down", "terminated"}


@dataclass(frozen=True)
class Image:
    id: str
    name: str
    created: datetime
    processor: str
    revision: str
    snapshots: Sequence[str]
    references: Sequence[str]
    """What needs the image, in words. A superseded version of a launch template does not count."""


@dataclass(frozen=True)
class Leftover:
    """A snapshot whose image is gone, because a deletion was interrupted."""

    snapshot: str
    started: datetime


def read_images(aws: Connection) -> list[Image]:
    """All images of the appliance, newest first."""
    found = aws.ec2.describe_images(Owners=["self"], Filters=[_OURS])["Images"]
    if not found:
        return []
    references = _references(aws, {image["ImageId"] for image in found})
    images = [_image(image, references[image["ImageId"]]) for image in found]
    return sorted(images, key=lambda image: (image.created, image.id), reverse=True)


def read_leftovers(aws: Connection, images: Sequence[Image], now: datetime) -> list[Leftover]:
    """Snapshots without an image, except young ones, which may belong to a bake that is still running."""
    used = {snapshot for image in images for snapshot in image.snapshots}
    pages = aws.ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], Filters=[_OURS])
    return [
        Leftover(snapshot["SnapshotId"], snapshot["StartTime"])
        for page in pages
        for snapshot in page["Snapshots"]
        if snapshot["SnapshotId"] not in used and now - snapshot["StartTime"] > _UNFINISHED
    ]


def superfluous(images: Sequence[Image]) -> list[Image]:
    """Images that nothing refers to, except the newest and the one before it."""
    newest_first = sorted(images, key=lambda image: (image.created, image.id), reverse=True)
    return [image for image in newest_first[KEPT:] if not image.references]


def prune(aws: Connection, say: Say, *, delete: bool, now: datetime | None = None) -> int:
    """Delete superfluous images, or only report them; returns how many there are. Safe to repeat."""
    images = read_images(aws)
    going = superfluous(images)
    verb = "deleted" if delete else "would be deleted"
    for image in going:
        if delete:
            aws.ec2.deregister_image(ImageId=image.id)
            for snapshot in image.snapshots:
                _delete_snapshot(aws, snapshot, say)
        say(f"{image.id} of {image.created:%Y-%m-%d} {verb}, with {', '.join(image.snapshots) or 'no snapshot'}")
    for leftover in read_leftovers(aws, images, now or datetime.now(UTC)):
        if delete:
            _delete_snapshot(aws, leftover.snapshot, say)
        say(f"{leftover.snapshot} of no image, of {leftover.started:%Y-%m-%d}, {verb}")
    return len(going)


def _delete_snapshot(aws: Connection, snapshot: str, say: Say) -> None:
    try:
        aws.ec2.delete_snapshot(SnapshotId=snapshot)
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "InvalidSnapshot.NotFound":
                return
            case "InvalidSnapshot.InUse":  # an image copied or made by hand may share it
                say(f"{snapshot} stays: another image uses it")
            case _:
                raise


def _image(raw: ImageTypeDef, references: Collection[str]) -> Image:
    tags = tags_of(raw)
    disks = (mapping.get("Ebs", {}) for mapping in raw.get("BlockDeviceMappings", []))
    return Image(
        id=raw["ImageId"],
        name=raw.get("Name", ""),
        created=datetime.fromisoformat(raw["CreationDate"]),
        processor=tags.get(IMAGE_PROCESSOR_TAG, "?"),
        revision=tags.get(IMAGE_REVISION_TAG, "?"),
        snapshots=[disk["SnapshotId"] for disk in disks if disk.get("SnapshotId")],
        references=sorted(references),
    )


def _references(aws: Connection, images: Collection[str]) -> Mapping[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for source in (_records, _instances, _templates):
        for image_id, what in source(aws, images):
            found[image_id].add(what)
    return found


Reference = tuple[str, str]
"""An image's id, and what refers to it."""


def _records(aws: Connection, _images: Collection[str]) -> Iterator[Reference]:
    if aws.settings.image_id:
        yield aws.settings.image_id, "IMAGE_ID"
    if recorded := recorded_image_id(aws):
        yield recorded, "the last bake"


def _instances(aws: Connection, images: Collection[str]) -> Iterator[Reference]:
    pages = aws.ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": "image-id", "Values": sorted(images)}]
    )
    for instance in (i for page in pages for group in page["Reservations"] for i in group["Instances"]):
        if instance["State"]["Name"] not in _GONE:
            yield instance["ImageId"], instance["InstanceId"]


def _templates(aws: Connection, _images: Collection[str]) -> Iterator[Reference]:
    """Images in the default and latest versions of launch templates, and in the versions that groups name."""
    versions = {"$Latest", "$Default"}
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    names: dict[str, str] = {}
    for template_page in aws.ec2.get_paginator("describe_launch_templates").paginate():
        for template in template_page["LaunchTemplates"]:
            names[template["LaunchTemplateId"]] = template["LaunchTemplateName"]
            wanted[template["LaunchTemplateId"]] |= versions
    ids = {name: template for template, name in names.items()}
    for group_page in aws.autoscaling.get_paginator("describe_auto_scaling_groups").paginate():
        for group in group_page["AutoScalingGroups"]:
            for used in _templates_of(group):
                template_id = used.get("LaunchTemplateId") or ids.get(used.get("LaunchTemplateName", ""))
                if template_id in names:
                    wanted[template_id].add(used.get("Version", "$Default"))
    for template_id, numbers in wanted.items():
        found = aws.ec2.describe_launch_template_versions(LaunchTemplateId=template_id, Versions=sorted(numbers))[
            "LaunchTemplateVersions"
        ]
        for version in found:
            what = f"launch template {names[template_id]} version {version['VersionNumber']}"
            yield version["LaunchTemplateData"].get("ImageId", ""), what


def _templates_of(group: AutoScalingGroupTypeDef) -> Iterator[LaunchTemplateSpecificationTypeDef]:
    if "LaunchTemplate" in group:
        yield group["LaunchTemplate"]
    mixed = group.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    if "LaunchTemplateSpecification" in mixed:
        yield mixed["LaunchTemplateSpecification"]
    for override in mixed.get("Overrides", []):
        if "LaunchTemplateSpecification" in override:
            yield override["LaunchTemplateSpecification"]
