"""The machine the worker runs on: who it is, who wants it back, its heartbeat tag, the end of its cost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from botocore.exceptions import ClientError
from ec2_metadata import EC2Metadata

from contracts.heartbeat import Heartbeat, format_heartbeat
from contracts.hold import Hold, parse_hold
from contracts.names import DRAIN_HOOK
from contracts.tags import GROUP_TAG, HEARTBEAT_TAG, HOLD_TAG, MAX_VALUE_LENGTH, PROCESSOR_TAG

if TYPE_CHECKING:
    from mypy_boto3_autoscaling import AutoScalingClient
    from mypy_boto3_ec2 import EC2Client

_REAL_ENDPOINT = "http://169.254.169.254"
_LET_GO_TRIES = 10
_LET_GO_PAUSE_SECONDS = 3.0


class Metadata(EC2Metadata):
    """IMDSv2, at the endpoint botocore's own variable names, else the real one."""

    def __init__(self) -> None:
        super().__init__(urllib3.PoolManager(retries=urllib3.Retry(2, backoff_factor=0.2)))
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _REAL_ENDPOINT).rstrip("/")
        self.service_url = f"{endpoint}/latest/"
        self.dynamic_url = f"{self.service_url}dynamic/"
        self.metadata_url = f"{self.service_url}meta-data/"
        self.userdata_url = f"{self.service_url}user-data/"

    def leaving(self) -> bool:
        """True once Spot has given its two minutes' notice."""
        return self._optional("spot/instance-action") is not None

    def retiring(self) -> bool:
        """True once the Auto Scaling group this machine belongs to wants it to end."""
        return self._optional("autoscaling/target-lifecycle-state") == "Terminated"

    def group(self) -> str | None:
        """The Auto Scaling group this machine belongs to; None for a machine alone."""
        return self._optional(f"tags/instance/{GROUP_TAG}")

    def hold(self) -> Hold | None:
        """The hold tag, which the launch template lets the instance see; None without one.

        While the service does not answer there may be one, e.g. of a deploy under way, so it is taken for held:
        the worker asks again after its next empty polls.
        """
        try:
            return parse_hold(self._look(f"tags/instance/{HOLD_TAG}"))
        except urllib3.exceptions.HTTPError:
            return Hold(by="the metadata service, which does not answer", until=None)

    def _optional(self, path: str) -> str | None:
        """What may not be there, and is not worth an error when the service does not answer either."""
        try:
            return self._look(path)
        except urllib3.exceptions.HTTPError:
            return None

    def _look(self, path: str) -> str | None:
        answer = self._get_url(f"{self.metadata_url}{path}", allow_404=True)
        return answer.data.decode(errors="replace") if answer.status == 200 else None


class Fleet:
    """The Auto Scaling group a machine belongs to, as far as one of its machines has a say in it."""

    def __init__(self, client: AutoScalingClient, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self.name = name
        self._sleep = sleep

    def leave(self, instance_id: str) -> None:
        """End the machine and take its place out of the group, so that it is not replaced."""
        self._client.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
        )
        self.let_go(instance_id)

    def let_go(self, instance_id: str) -> bool:
        """Tell the group, which wants the machine to end, that it may.

        False when the group does not wait for it: its hook has timed out, or is not reached within half a minute.
        The machine then ends by the hook's own time.
        """
        for _ in range(_LET_GO_TRIES):
            try:
                self._client.complete_lifecycle_action(
                    AutoScalingGroupName=self.name,
                    LifecycleHookName=DRAIN_HOOK,
                    InstanceId=instance_id,
                    LifecycleActionResult="CONTINUE",
                )
            except ClientError as error:
                # Between asking for the end and the hook's wait lie some seconds.
                if error.response["Error"]["Code"] != "ValidationError":
                    raise
                self._sleep(_LET_GO_PAUSE_SECONDS)
            else:
                return True
        return False


class Machine:
    """An EC2 instance that says what it does through a tag and ends its own cost."""

    def __init__(self, client: EC2Client, instance_id: str, fleet: Fleet | None = None) -> None:
        """`fleet` is the group the instance belongs to; None for a machine alone."""
        self._client = client
        self.instance_id = instance_id
        self.fleet = fleet

    def announce(self, version: str) -> None:
        """Say which processor runs here."""
        self._tag(PROCESSOR_TAG, version)

    def heartbeat(self, job_id: str | None, percent: int) -> None:
        """Tell the autoscaler in one tag, which it reads with the state it asks for anyway."""
        self._tag(HEARTBEAT_TAG, format_heartbeat(Heartbeat(datetime.now(UTC), job_id, percent)))

    def crashed(self) -> None:
        """Say that the worker crashed in a loop: the autoscaler then leaves the instance stopped for a while."""
        self._tag(HEARTBEAT_TAG, format_heartbeat(Heartbeat(datetime.now(UTC), crashed=True)))

    def leave(self) -> None:
        """Stop, to be started again; out of a fleet: end for good."""
        if self.fleet is not None:
            self.fleet.leave(self.instance_id)
        else:
            self._client.stop_instances(InstanceIds=[self.instance_id])

    def _tag(self, key: str, value: str) -> None:
        self._client.create_tags(
            Resources=[self.instance_id], Tags=[{"Key": key, "Value": value[:MAX_VALUE_LENGTH]}]
        )


def region(metadata: Metadata) -> str | None:
    """boto3 itself reads AWS_DEFAULT_REGION alone; an instance knows where it is."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    try:
        return metadata.region
    except urllib3.exceptions.HTTPError:
        return None  # the configuration file may name it


def installed_release(prefix: Path = Path(sys.prefix)) -> str | None:
    """The name of the release this runs from; None where it was not installed as one (a checkout)."""
    folder = prefix.resolve()
    return folder.name if folder.parent.name == "releases" else None
