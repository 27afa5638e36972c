"""Images made from instances: CreateImage, their creation date, and snapshots that an image keeps from deletion.

To ministack an image is a container. Here the supervisor's machine is behind an instance, whatever the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ministack.services import ec2

Params = dict[str, Any]
Action = Callable[[Params], Any]
_IMAGE_ID = re.compile(r"<imageId>(ami-[0-9a-f]+)</imageId>")
_SNAPSHOT_ID = re.compile(r"<snapshotId>(snap-[0-9a-f]+)</snapshotId>")


def complete() -> None:
    actions: dict[str, Action] = ec2._ACTION_MAP
    ec2._registered_image = lambda _image_id: None
    ec2._docker_touched = lambda: False
    actions["CreateImage"] = _create_image
    actions["DescribeImages"] = _with_dates(actions["DescribeImages"])
    actions["DeleteSnapshot"] = _unless_in_use(actions["DeleteSnapshot"])


def _create_image(params: Params) -> Any:
    """A snapshot of each disk, and an image of these. It is available at once; EC2 takes minutes."""
    instance_id = ec2._p(params, "InstanceId")
    instance = ec2._instances.get(instance_id)
    if instance is None:
        return ec2._error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist", 400)
    if any(image["Name"] == ec2._p(params, "Name") for image in ec2._images.values()):
        return ec2._error("InvalidAMIName.Duplicate", "AMI name is already in use by another AMI", 400)
    tags = {name: value for name, value in params.items() if name.startswith("TagSpecification.")}
    image: Params = {name: params[name] for name in ("Name", "Description") if name in params} | tags
    image |= {"Architecture": ["x86_64"], "VirtualizationType": ["hvm"], "RootDeviceName": ["/dev/sda1"]}
    for number, disk in enumerate(instance.get("BlockDeviceMappings", []), 1):
        volume = disk["Ebs"]["VolumeId"]
        answer = ec2._create_snapshot({"VolumeId": [volume], "Description": [f"for {instance_id}"], **tags})
        mapping = f"BlockDeviceMapping.{number}"
        image[f"{mapping}.DeviceName"] = [disk["DeviceName"]]
        image[f"{mapping}.Ebs.SnapshotId"] = _SNAPSHOT_ID.findall(_text(answer))[:1]
        image[f"{mapping}.Ebs.VolumeSize"] = [str(ec2._volumes[volume]["Size"])]
    registered = ec2._register_image(image)
    return _replace(registered, "RegisterImageResponse", "CreateImageResponse")


def _with_dates(action: Action) -> Action:
    def describe(params: Params) -> Any:
        status, headers, body = action(params)
        dates = {image["ImageId"]: image["CreationDate"] for image in ec2._images.values()}

        def dated(match: re.Match[str]) -> str:
            date = dates.get(match[1], "2020-01-01T00:00:00.000Z")
            return f"{match[0]}<creationDate>{date}</creationDate>"

        return status, headers, _IMAGE_ID.sub(dated, body.decode()).encode()

    return describe


def _unless_in_use(action: Action) -> Action:
    def delete(params: Params) -> Any:
        snapshot = ec2._p(params, "SnapshotId")
        for image in ec2._images.values():
            if any(disk.get("Ebs", {}).get("SnapshotId") == snapshot for disk in image["BlockDeviceMappings"]):
                text = f"The snapshot {snapshot} is currently in use by {image['ImageId']}"
                return ec2._error("InvalidSnapshot.InUse", text, 400)
        return action(params)

    return delete


def _text(answer: Any) -> str:
    body = answer[2]
    return body.decode() if isinstance(body, bytes) else str(body)


def _replace(answer: Any, old: str, new: str) -> Any:
    status, headers, _body = answer
    return status, headers, _text(answer).replace(old, new).encode()
