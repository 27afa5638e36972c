"""Take down what `make deploy` created, except what cannot be recreated: lessons, transcripts, the database."""

from __future__ import annotations

from collections.abc import Callable

from botocore.exceptions import ClientError

from contracts.names import DATABASE_SECRET, PARAMETER_PREFIX
from ops.autoscaler.release import end_notification
from ops.aws.connection import Connection
from ops.aws.stacks import delete_stack
from ops.capacity import fleet
from ops.capacity.launch import STATUS_CHECK_ALARM
from ops.errors import OpsError
from ops.observability.queues import read_queue
from ops.releases.store import write_wanted
from whisper_processor.settings import APPLIANCE_SETTINGS

Say = Callable[[str], None]


def plan(aws: Connection, *, lose_waiting: bool) -> list[str]:
    """What will be deleted and what is kept, in words. Raises OpsError when lessons in the queue would be lost."""
    foundation = aws.foundation
    own_queue = not aws.settings.existing_queue_arn
    counts = read_queue(aws)
    waiting = counts.backlog + counts.dead if own_queue else counts.dead
    if waiting and not lose_waiting:
        raise OpsError(
            f"{waiting} messages are still in the queues that would be deleted: let them be done (`make resume`,"
            " `make redrive`), or run it with LOSE_QUEUE=1"
        )
    instances = ", ".join(_instances(aws)) or "none"
    stacks = [aws.settings.autoscaler_stack, aws.settings.foundation_stack]
    if aws.stack_outputs(aws.settings.fleet_stack) is not None:
        stacks.insert(0, aws.settings.fleet_stack)
    queues = "both queues" if own_queue else "the dead-letter queue"
    return [
        f"goes: appliance {instances}, with its disk",
        f"goes: stacks {', '.join(stacks)}",
        f"goes: {queues}, with {waiting} messages; logs, settings",
        f"stays: bucket {foundation['BucketName']} with all lessons and transcripts"
        " (EXISTING_BUCKET_NAME in .env adopts it at the next deploy)",
        f"stays: secret {DATABASE_SECRET}, and the database",
    ]


def destroy(aws: Connection, say: Say) -> None:
    """Delete it all. Safe to repeat, and to run again after an interruption."""
    _quietly(lambda: end_notification(aws, aws.foundation["BucketName"]))
    fleet.retire(aws, say)  # first: a group would replace what is terminated
    instances = _instances(aws)
    if instances:
        aws.ec2.terminate_instances(InstanceIds=instances)
        say(f"waiting for {', '.join(instances)} to be terminated")
        waiter = aws.ec2.get_waiter("instance_terminated")
        waiter.wait(InstanceIds=instances, WaiterConfig={"Delay": 2, "MaxAttempts": 300})
    aws.cloudwatch.delete_alarms(AlarmNames=[STATUS_CHECK_ALARM])
    say(f"deleting stack {aws.settings.autoscaler_stack}")
    delete_stack(aws, aws.settings.autoscaler_stack, say)
    say(f"deleting stack {aws.settings.foundation_stack}")
    delete_stack(aws, aws.settings.foundation_stack, say)
    pages = aws.ssm.get_paginator("get_parameters_by_path").paginate(Path=PARAMETER_PREFIX)
    write_wanted(aws, None)  # the next image brings a release of its own
    for name in [p["Name"] for page in pages for p in page["Parameters"]]:
        if name.rsplit("/", 1)[-1] in APPLIANCE_SETTINGS:
            aws.ssm.delete_parameter(Name=name)


def _instances(aws: Connection) -> list[str]:
    return [instance["InstanceId"] for instance in aws.instances()]


def _quietly(action: Callable[[], None]) -> None:
    """Ignore that the bucket is gone: then it has no notification either."""
    try:
        action()
    except ClientError as error:
        if error.response["Error"]["Code"] not in {"NoSuchBucket", "404"}:
            raise
