"""Images that EC2 keeps: listed with what refers to them, and pruned only when nothing does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local.images import current
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.capacity import image
from ops.errors import OpsError
from ops.images import registry
from testbed.cloud import quiet

TAGS = [
    {"Key": "classreflect:role", "Value": "whisper-image"},
    {"Key": "classreflect:processor-version", "Value": "0.1.0"},
    {"Key": "classreflect:git-revision", "Value": "0123456789ab"},
]


def bake(aws: Connection, name: str) -> str:
    """As Packer does: an instance, an image of it, the instance's end."""
    ran = aws.ec2.run_instances(MinCount=1, MaxCount=1, ImageId="ami-0123456789abcdef0", InstanceType="t3.micro")
    instance_id = ran["Instances"][0]["InstanceId"]
    image_id = aws.ec2.create_image(
        InstanceId=instance_id,
        Name=name,
        TagSpecifications=[{"ResourceType": kind, "Tags": TAGS} for kind in ("image", "snapshot")],  # type: ignore[misc]
    )["ImageId"]
    aws.ec2.terminate_instances(InstanceIds=[instance_id])
    return image_id


@pytest.fixture
def baked(deployed: Connection) -> Iterator[list[str]]:
    """Six images, oldest first; EC2's dates are whole seconds here."""
    made = []
    for number in range(6):
        made.append(bake(deployed, f"classreflect-whisper-test-{number}"))
        time.sleep(1.1)
    yield made
    for one in registry.read_images(deployed):
        deployed.ec2.deregister_image(ImageId=one.id)
        for snapshot in one.snapshots:
            deployed.ec2.delete_snapshot(SnapshotId=snapshot)


def snapshots(aws: Connection) -> set[str]:
    return {s["SnapshotId"] for s in aws.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}


def test_an_image_is_made_of_an_instances_disks_and_holds_on_to_them(
    deployed: Connection, baked: list[str]
) -> None:
    newest = registry.read_images(deployed)[0]
    assert newest.id == baked[-1]
    assert (newest.processor, newest.revision) == ("0.1.0", "0123456789ab")
    assert abs(datetime.now(UTC) - newest.created) < timedelta(minutes=1)
    (snapshot,) = newest.snapshots
    with pytest.raises(ClientError, match=r"InvalidSnapshot\.InUse"):
        deployed.ec2.delete_snapshot(SnapshotId=snapshot)
    with pytest.raises(ClientError, match=r"InvalidAMIName\.Duplicate"):
        bake(deployed, newest.name)


def test_what_something_refers_to_is_listed_with_it_and_survives_pruning(
    deployed: Connection, baked: list[str]
) -> None:
    template, by_instance, recorded, superseded, before, newest = baked
    made = deployed.ec2.create_launch_template(
        LaunchTemplateName="groups", LaunchTemplateData={"ImageId": template}
    )["LaunchTemplate"]
    by_number = made["LaunchTemplateId"]
    for image_id in (superseded, newest):
        deployed.ec2.create_launch_template_version(
            LaunchTemplateId=by_number, LaunchTemplateData={"ImageId": image_id}
        )
    deployed.ec2.modify_launch_template(LaunchTemplateId=by_number, DefaultVersion="3")
    deployed.autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="by-number",
        MinSize=0,
        MaxSize=0,
        LaunchTemplate={"LaunchTemplateId": by_number, "Version": "1"},
        AvailabilityZones=["us-east-1a"],
    )
    ran = deployed.ec2.run_instances(MinCount=1, MaxCount=1, ImageId=by_instance, InstanceType="t3.micro")
    instance_id = ran["Instances"][0]["InstanceId"]
    launched = image.image_id(deployed)
    image.record(deployed, recorded)
    try:
        found = {one.id: list(one.references) for one in registry.read_images(deployed)}
        assert found == {
            template: ["launch template groups version 1"],
            by_instance: [instance_id],
            recorded: ["the last bake"],
            superseded: [],
            before: [],
            newest: ["launch template groups version 3"],
        }
        there = snapshots(deployed)
        assert registry.prune(deployed, quiet, delete=False) == 1
        assert (snapshots(deployed), len(registry.read_images(deployed))) == (there, 6), "a dry run"

        assert registry.prune(deployed, quiet, delete=True) == 1
        assert {one.id for one in registry.read_images(deployed)} == set(baked) - {superseded}
        assert len(there - snapshots(deployed)) == 1
        assert registry.prune(deployed, quiet, delete=True) == 0
    finally:
        deployed.autoscaling.delete_auto_scaling_group(AutoScalingGroupName="by-number", ForceDelete=True)
        deployed.ec2.delete_launch_template(LaunchTemplateId=by_number)
        deployed.ec2.terminate_instances(InstanceIds=[instance_id])
        image.record(deployed, launched)


def test_a_deletion_that_was_cut_off_is_ended_by_the_next_but_no_bake_is_disturbed(
    deployed: Connection, baked: list[str]
) -> None:
    gone = registry.read_images(deployed)[-1]
    deployed.ec2.deregister_image(ImageId=gone.id)
    (left,) = gone.snapshots
    registry.prune(deployed, quiet, delete=True)
    assert left in snapshots(deployed), "so young a snapshot may be of a bake that is not done"
    registry.prune(deployed, quiet, delete=True, now=datetime.now(UTC) + timedelta(days=2))
    assert left not in snapshots(deployed)
    assert {s for one in registry.read_images(deployed) for s in one.snapshots} <= snapshots(deployed)


def test_a_cloud_that_is_up_launches_from_what_is_baked_meanwhile(
    deployed: Connection, local_cloud: LocalCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = image.image_id(deployed)
    monkeypatch.setattr(current, "_RECORD", tmp_path / "current.json")
    current.keep_as_current(current.Baked("ami-0aaaaaaaaaaaaaaaa", tmp_path, "inputs", 1.0))
    assert image.image_id(deployed) == before
    try:
        local_cloud.offer_image()
        assert image.image_id(deployed) == "ami-0aaaaaaaaaaaaaaaa"
    finally:
        image.record(deployed, before)


def test_without_an_image_the_verb_that_makes_one_is_named(deployed: Connection) -> None:
    elsewhere = Connection(deployed.settings.model_copy(update={"aws_region": "eu-west-1"}))
    with pytest.raises(OpsError, match=r"there is no image yet: run `make up`, or set IMAGE_ID in \.env"):
        image.image_id(elsewhere)
    named = Connection(elsewhere.settings.model_copy(update={"image_id": "ami-0bbbbbbbbbbbbbbbb"}))
    assert image.image_id(named) == "ami-0bbbbbbbbbbbbbbbb"
