"""The instance the worker runs on: its metadata, its tags, and how it is stopped or terminated."""

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
    """IMDSv2, at the endpoint that botocore's environment variable names, or the real one."""

    def __init__(self) -> None:
        super().__init__(urllib3.PoolManager(retries=urllib3.Retry(2, backoff_factor=0.2)))
        endpoint = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", _REAL_ENDPOINT).rstrip("/")
        self.service_url = f"{endpoint}/latest/"
        self.dynamic_url = f"{self.service_url}dynamic/"
        self.metadata_url = f"{self.service_url}meta-data/"
        self.userdata_url = f"{self.service_url}user-data/"

    def leaving(self) -> bool:
        """True once Spot has given two minutes' notice."""
        return self._optional("spot/instance-action") is not None

    def retiring(self) -> bool:
        """True once the machine's Auto Scaling group is terminating it."""
        return self._optional("autoscaling/target-lifecycle-state") == "Terminated"

    def group(self) -> str | None:
        """The Auto Scaling group the machine belongs to; None when there is none."""
        return self._optional(f"tags/instance/{GROUP_TAG}")

    def hold(self) -> Hold | None:
        """The hold tag, which the launch template exposes to the instance; None without one.

        While the metadata service does not respond, the instance counts as held, because a deploy may be in
        progress. The worker asks again after its next empty polls.
        """
        try:
            return parse_hold(self._look(f"tags/instance/{HOLD_TAG}"))
        except urllib3.exceptions.HTTPError:
            return Hold(by="the metadata service, which does not answer", until=None)

    def _optional(self, path: str) -> str | None:
        """None when it does not exist, and also when the service does not respond."""
        try:
            return self._look(path)
        except urllib3.exceptions.HTTPError:
            return None

    def _look(self, path: str) -> str | None:
        answer = self._get_url(f"{self.metadata_url}{path}", allow_404=True)
        return answer.data.decode(errors="replace") if answer.status == 200 else None


class Fleet:
    """The Auto Scaling group that a machine belongs to, as one of its machines may change it."""

    def __init__(self, client: AutoScalingClient, name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self.name = name
        self._sleep = sleep

    def leave(self, instance_id: str) -> None:
        """Terminate the machine and decrement the desired capacity, so that it is not replaced."""
        self._client.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=True
        )
        self.let_go(instance_id)

    def let_go(self, instance_id: str) -> bool:
        """Complete the lifecycle hook, so that the group can terminate the machine.

        False when the group is not waiting for that: the hook has timed out, or is not reached within half a
        minute. The machine is then terminated when the hook times out.
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
                # The hook starts some seconds after the termination was requested.
                if error.response["Error"]["Code"] != "ValidationError":
                    raise
                self._sleep(_LET_GO_PAUSE_SECONDS)
            else:
                return True
        return False


class Machine:
    """An EC2 instance that reports through tags, and stops or terminates itself."""

    def __init__(self, client: EC2Client, instance_id: str, fleet: Fleet | None = None) -> None:
        """`fleet` is the group the instance belongs to; None when there is none."""
        self._client = client
        self.instance_id = instance_id
        self.fleet = fleet

    def announce(self, version: str) -> None:
        """Tag the instance with the version of its processor."""
        self._tag(PROCESSOR_TAG, version)

    def heartbeat(self, job_id: str | None, percent: int) -> None:
        """Report to the autoscaler in one tag, which it reads together with the instance's state."""
        self._tag(HEARTBEAT_TAG, format_heartbeat(Heartbeat(datetime.now(UTC), job_id, percent)))

    def crashed(self) -> None:
        """Report a crash loop: the autoscaler then leaves the instance stopped for a while."""
        self._tag(HEARTBEAT_TAG, format_heartbeat(Heartbeat(datetime.now(UTC), crashed=True)))

    def leave(self) -> None:
        """Stop the instance, so that it can be started again; in a fleet, terminate it."""
        if self.fleet is not None:
            self.fleet.leave(self.instance_id)
        else:
            self._client.stop_instances(InstanceIds=[self.instance_id])

    def _tag(self, key: str, value: str) -> None:
        self._client.create_tags(
            Resources=[self.instance_id], Tags=[{"Key": key, "Value": value[:MAX_VALUE_LENGTH]}]
        )


def region(metadata: Metadata) -> str | None:
    """From AWS_REGION too, which boto3 does not read, or from the instance's metadata."""
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    try:
        return metadata.region
    except urllib3.exceptions.HTTPError:
        return None  # the configuration file may name it


def installed_release(prefix: Path = Path(sys.prefix)) -> str | None:
    """The name of the release this runs from; None for a checkout."""
    folder = prefix.resolve()
    return folder.name if folder.parent.name == "releases" else None
