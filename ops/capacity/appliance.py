"""The operator's verbs on one appliance: start, stop, hold, resume, run the processor, open a shell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import timedelta

from botocore.exceptions import ClientError

from contracts.names import SERVICE
from contracts.tags import HOLD_TAG
from ops import waiting
from ops.aws import run_command
from ops.aws.connection import Connection
from ops.capacity.holds import hold_from_now
from ops.errors import OpsError

Say = Callable[[str], None]
_STATE_SECONDS = 600.0
_DRAIN_SECONDS = 240.0  # twice the longest DRAIN_SECONDS that makes sense with Spot
_ONLINE_SECONDS = 120.0


def start(aws: Connection, hold_for: timedelta, say: Say) -> None:
    """Hold first, then start: otherwise the autoscaler could stop the instance in between."""
    hold(aws, hold_for, say)
    _command(aws, "started", aws.ec2.start_instances)
    wait_for(aws, "running", _STATE_SECONDS, waiting.say_changes(lambda state: say(f"appliance {state}")))


def stop(aws: Connection, hold_for: timedelta, say: Say) -> None:
    """Drain the worker, then stop the instance."""
    hold(aws, hold_for, say)
    instance = aws.instance()
    if instance["State"]["Name"] == "running" and not drain(aws, instance["InstanceId"], say):
        say("going on: EC2's stop asks the worker too, with less time")
    _command(aws, "stopped", aws.ec2.stop_instances)
    wait_for(aws, "stopped", _STATE_SECONDS, waiting.say_changes(lambda state: say(f"appliance {state}")))


def drain(aws: Connection, instance_id: str, say: Say) -> bool:
    """Let the worker finish its lesson or give it back, and stop it. Returns whether it has stopped."""
    say("asking the worker to finish its lesson, or to give it back to the queue")
    try:
        ended = run_command.execute(
            aws, instance_id, f"systemctl stop {SERVICE}", _DRAIN_SECONDS, waiting.say_every(10, say, "draining")
        )
    except OpsError as error:
        say(str(error))
        return False
    say("the worker has left" if ended.succeeded else f"the worker did not leave: {ended.stderr.strip()[:200]}")
    return ended.succeeded


def hold(aws: Connection, duration: timedelta, say: Say) -> None:
    """Keep the autoscaler from acting for this long."""
    value, until = hold_from_now(duration)
    instance_id = aws.instance()["InstanceId"]
    aws.ec2.create_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG, "Value": value}])
    say(f"the autoscaler leaves {instance_id} alone until {until}; `make resume` ends that")


def resume(aws: Connection, say: Say) -> None:
    instance_id = aws.instance()["InstanceId"]
    aws.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG}])
    say(f"the autoscaler looks after {instance_id} again")


def run_processor(aws: Connection, minutes: float, say: Say) -> str:
    """Run the documented manual command on the machine instead of the service. Returns what it printed.

    It works until the queue stayed empty, without stopping the instance, so that its words can be read; then the
    service runs again. Raises OpsError when it fails.
    """
    instance_id = running_instance(aws)
    run_command.wait_online(aws, instance_id, _ONLINE_SECONDS)
    script = f"""systemctl stop {SERVICE}
trap 'systemctl start {SERVICE}' EXIT
export STOP_WHEN_IDLE=false
cd "${{WHISPER_HOME:-/opt/whisper}}" && timeout {int(minutes * 60)} python3.11 processor.py 2>&1"""
    say("the service is stopped and `cd /opt/whisper && python3.11 processor.py` runs in its place")
    ended = run_command.execute(
        aws, instance_id, script, minutes * 60 + _DRAIN_SECONDS, waiting.say_every(10, say, "running")
    )
    if not ended.succeeded:
        raise OpsError(f"the processor failed: {_last_line(ended.stdout or ended.stderr)}")
    return ended.stdout


def session(aws: Connection) -> None:
    """Open a shell on the machine; it replaces this process. Raises OpsError when that fails."""
    instance_id = running_instance(aws)
    if local := aws.settings.session_program:
        if not local.exists():
            raise OpsError(f"{local} is missing: run `make up`")
        os.execv(local, [str(local), instance_id])  # noqa: S606
    for program, source in (("aws", "the AWS CLI"), ("session-manager-plugin", "AWS's Session Manager plugin")):
        if shutil.which(program) is None:
            raise OpsError(f"{program} is not installed: it is {source}, see AWS's documentation for its package")
    run_command.wait_online(aws, instance_id, _ONLINE_SECONDS)
    profile = ["--profile", aws.settings.aws_profile] if aws.settings.aws_profile else []
    target = ["ssm", "start-session", "--target", instance_id, "--region", aws.settings.aws_region]
    os.execvp("aws", ["aws", *target, *profile])  # noqa: S606


def running_instance(aws: Connection) -> str:
    """The appliance's id. Raises OpsError when it is not running."""
    instance = aws.instance()
    if instance["State"]["Name"] != "running":
        raise OpsError(f"the appliance is {instance['State']['Name']}: run `make start` first")
    return instance["InstanceId"]


def wait_for(aws: Connection, state: str, timeout: float, on_state: Say = lambda _state: None) -> None:
    """Wait until the appliance is in `state`. Raises OpsError after `timeout` seconds."""
    now = ""

    def reached() -> bool:
        nonlocal now
        now = aws.instance()["State"]["Name"]
        on_state(now)
        return now == state

    try:
        waiting.wait_until(reached, timeout)
    except waiting.TooLong:
        raise OpsError(
            f"the appliance is still {now} after {timeout:.0f} s, not {state}: run `make status`"
        ) from None


def _command(aws: Connection, done: str, action: Callable[..., object]) -> None:
    instance = aws.instance()
    try:
        action(InstanceIds=[instance["InstanceId"]])
    except ClientError as error:
        if error.response["Error"]["Code"] == "IncorrectInstanceState":
            state = instance["State"]["Name"]
            raise OpsError(f"the appliance is {state} and cannot be {done} now: try again in a minute") from error
        raise


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
