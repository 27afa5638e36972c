"""Keeps a machine behind each local EC2 instance that is `running`, and runs commands on it for SSM.

Run as `python -m local.platform.supervisor`. The environment says where the cloud is and where to keep logs.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from contracts.tags import GROUP_TAG, ROLE_PROCESSOR, ROLE_TAG
from local import machines
from local.errors import LocalError
from local.machines.base import Blueprint, Boot, Machine
from local.machines.imds import Identity, role_credentials
from local.platform.channel import ChannelError, ChannelServer, Message
from local.platform.logs import LogShipper

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import InstanceTypeDef

_POLL_SECONDS = 0.5
_HANDS = 8
_ENDED_STATES = {"stopping", "stopped", "shutting-down", "terminated"}


class Supervisor:
    def __init__(self, session: boto3.session.Session, boot: Boot, root: Path, models_dir: Path) -> None:
        self._session = session
        self._ec2: EC2Client = session.client("ec2")
        self._groups: AutoScalingClient = session.client("autoscaling")
        self._boot = boot
        self._root = root
        self._models_dir = models_dir
        self._machines: dict[str, Machine] = {}
        self._reboots: set[str] = set()
        # Several machines boot and halt at once: one that drains for half a minute does not delay the others.
        self._hands = ThreadPoolExecutor(max_workers=_HANDS, thread_name_prefix="machine")
        self._changing: dict[str, Future[None]] = {}

    def run(self, ending: threading.Event) -> None:
        while not ending.wait(_POLL_SECONDS):
            try:
                self._follow()
            except (BotoCoreError, ClientError) as error:
                sys.stderr.write(f"EC2 does not answer: {error}\n")
            except LocalError as error:
                sys.stderr.write(f"a machine did not boot, next attempt at once: {error}\n")
        wait(self._changing.values())
        for machine in self._machines.values():
            self._hands.submit(machine.halt)
        self._hands.shutdown()

    def answer(self, request: Message) -> Message:
        """Answer the emulator and `make session`, each on a thread of its own."""
        instance_id = request["instance"]
        machine = self._machines.get(instance_id)
        match request["do"]:
            case "ping":
                return {"managed": machine is not None}
            case "reboot":
                self._reboots.add(instance_id)
                return {}
            case "execute" if machine is not None:
                return asdict(machine.execute(request["script"], request["timeout"]))
            case "shell" if machine is not None:
                return asdict(machine.shell())
            case "execute" | "shell":
                raise ChannelError(f"no machine runs behind {instance_id}")
        raise ChannelError(f"unknown request {request['do']!r}")

    def _follow(self) -> None:
        self._settle({change for change in self._changing.values() if change.done()})
        pages = self._ec2.describe_instances(Filters=[{"Name": f"tag:{ROLE_TAG}", "Values": [ROLE_PROCESSOR]}])
        seen = [instance for reservation in pages["Reservations"] for instance in reservation["Instances"]]
        for instance in seen:
            if instance["InstanceId"] not in self._changing:
                self._follow_one(instance)
        for instance_id in set(self._machines) - {i["InstanceId"] for i in seen} - set(self._changing):
            self._change(instance_id, self._halt, instance_id)  # terminated, and forgotten by EC2 meanwhile

    def _follow_one(self, instance: InstanceTypeDef) -> None:
        instance_id, state = instance["InstanceId"], instance["State"]["Name"]
        machine = self._machines.get(instance_id)
        if machine is not None and (state in _ENDED_STATES or instance_id in self._reboots):
            self._change(instance_id, self._halt, instance_id)
        elif state == "terminated":
            shutil.rmtree(self._root / "instances" / instance_id, ignore_errors=True)
        elif state == "running" and machine is None:
            self._change(instance_id, self._start, instance)
        elif machine is not None and machine.powered_off():
            self._change(instance_id, self._power_off, instance)
        self._reboots.discard(instance_id)

    def _change(self, instance_id: str, action: Callable[..., None], *arguments: object) -> None:
        self._changing[instance_id] = self._hands.submit(action, *arguments)

    def _settle(self, ended: Iterable[Future[None]]) -> None:
        """Forget the changes that ended. Raises the error of one of them; the others follow at the next poll."""
        for instance_id, change in list(self._changing.items()):
            if change in ended:
                del self._changing[instance_id]
                change.result()

    def _start(self, instance: InstanceTypeDef) -> None:
        self._machines[instance["InstanceId"]] = self._boot(self._blueprint(instance))

    def _halt(self, instance_id: str) -> None:
        # Halted first: while it drains, commands still reach it.
        self._machines[instance_id].halt()
        del self._machines[instance_id]

    def _power_off(self, instance: InstanceTypeDef) -> None:
        """InstanceInitiatedShutdownBehavior: an instance of a group is terminated, the single one is stopped."""
        self._halt(instance["InstanceId"])
        end = self._ec2.terminate_instances if in_group(instance) else self._ec2.stop_instances
        end(InstanceIds=[instance["InstanceId"]])

    def _blueprint(self, instance: InstanceTypeDef) -> Blueprint:
        instance_id = instance["InstanceId"]
        folder = self._root / "instances" / instance_id
        folder.mkdir(parents=True, exist_ok=True)
        region = self._ec2.meta.region_name
        profile = instance.get("IamInstanceProfile", {}).get("Arn", "").rsplit("/", 1)[-1]
        return Blueprint(
            identity=Identity(instance_id, instance["InstanceType"], instance["ImageId"], region),
            credentials=lambda: role_credentials(self._session, profile, instance_id),
            tags=lambda: self._tags(instance_id),
            user_data=lambda: self._user_data(instance_id),
            lifecycle=lambda: self._lifecycle(instance_id) if in_group(instance) else None,
            folder=folder,
            log=LogShipper(self._session.client("logs"), instance_id, folder / "processor.log").line,
            models_dir=self._models_dir,
        )

    def _lifecycle(self, instance_id: str) -> str:
        """The state its group wants it in, in the metadata service's words."""
        found = self._groups.describe_auto_scaling_instances(InstanceIds=[instance_id])["AutoScalingInstances"]
        stays = any(not member["LifecycleState"].startswith("Terminat") for member in found)
        return "InService" if stays else "Terminated"

    def _user_data(self, instance_id: str) -> str | None:
        found = self._ec2.describe_instance_attribute(InstanceId=instance_id, Attribute="userData")
        encoded = found.get("UserData", {}).get("Value")
        return base64.b64decode(encoded).decode(errors="replace") if encoded else None

    def _tags(self, instance_id: str) -> dict[str, str]:
        found = self._ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [instance_id]}])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in found}


def in_group(instance: InstanceTypeDef) -> bool:
    """Whether an Auto Scaling group launched the instance."""
    return any(tag["Key"] == GROUP_TAG for tag in instance.get("Tags", []))


def main() -> None:
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    root = Path(os.environ["LOCAL_CLOUD_ROOT"])
    boot = machines.backend(machines.MachineKind(os.environ["LOCAL_MACHINE"]))
    supervisor = Supervisor(boto3.session.Session(), boot, root, Path(os.environ["WHISPER_MODELS_DIR"]))
    channel = ChannelServer(root, supervisor.answer)
    try:
        supervisor.run(ending)
    finally:
        channel.close()


if __name__ == "__main__":
    main()
