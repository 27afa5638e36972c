"""The appliance by hand: start it, stop it, hold the autoscaler off."""

from __future__ import annotations

import getpass
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

from ops.connection import Connection
from ops.errors import OpsError
from whisper_processor.contracts import HOLD_TAG

Say = Callable[[str], None]
_POLL_SECONDS = 1.0


def start(cloud: Connection, hold_for: timedelta, say: Say) -> None:
    _command(cloud, "started", cloud.ec2.start_instances)
    hold(cloud, hold_for, say)


def stop(cloud: Connection, hold_for: timedelta, say: Say) -> None:
    """The worker is told by its SIGTERM and gives a job in hand back to the queue."""
    hold(cloud, hold_for, say)
    _command(cloud, "stopped", cloud.ec2.stop_instances)


def hold(cloud: Connection, duration: timedelta, say: Say) -> None:
    """Keep the autoscaler from acting until then."""
    until = (datetime.now(UTC) + duration).strftime("%Y-%m-%dT%H:%M:%SZ")
    instance_id = cloud.instance()["InstanceId"]
    value = f"by={getpass.getuser()};until={until}"
    cloud.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG, "Value": value}])
    say(f"the autoscaler leaves {instance_id} alone until {until}; `make release` ends that")


def release(cloud: Connection, say: Say) -> None:
    instance_id = cloud.instance()["InstanceId"]
    cloud.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG}])
    say(f"the autoscaler looks after {instance_id} again")


def wait_for(cloud: Connection, state: str, timeout: float, on_state: Say = lambda _state: None) -> None:
    """Wait until the appliance is in `state`. Raises OpsError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        now = cloud.instance()["State"]["Name"]
        on_state(now)
        if now == state:
            return
        if time.monotonic() > deadline:
            raise OpsError(f"the appliance is still {now} after {timeout:.0f} s, not {state}: run `make status`")
        time.sleep(_POLL_SECONDS)


def _command(cloud: Connection, done: str, action: Callable[..., object]) -> None:
    instance = cloud.instance()
    try:
        action(InstanceIds=[instance["InstanceId"]])
    except ClientError as error:
        if error.response["Error"]["Code"] == "IncorrectInstanceState":
            state = instance["State"]["Name"]
            raise OpsError(f"the appliance is {state} and cannot be {done} now: try again in a minute") from error
        raise
