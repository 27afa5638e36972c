"""The whole system on a private cloud, with polls short enough for tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

from contracts.capacity import CapacityMode
from local.platform.cloud import LocalCloud
from ops.autoscaler import release
from ops.aws import run_command
from ops.aws.connection import Connection
from ops.capacity import appliance, launch
from ops.infrastructure import deploy, migrate
from ops.releases.settings import write_settings
from ops.settings import OpsSettings
from testbed.cloud import Say, quiet, settings_of

SHORT_POLLS = {"POLL_WAIT_SECONDS": "1", "PROGRESS_SECONDS": "0.3", "BACKOFF_BASE_SECONDS": "1"}
FLEET_POLLS = {
    "POLL_WAIT_SECONDS": "1",
    "VISIBILITY_TIMEOUT_SECONDS": "10",
    "PROGRESS_SECONDS": "0.5",
    "WHISPER_THREADS": "1",  # several workers share a few cores
}
FLEET_MAXIMUM = 3


def deploy_system(aws: Connection, worker: Mapping[str, str], say: Say = quiet) -> None:
    """Everything but an appliance; `worker` holds its settings."""
    deploy.deploy_infra(aws, say)
    migrate.migrate(aws.database())
    release.deploy(aws, say)
    write_settings(aws, worker, say)


def deploy_all(aws: Connection) -> None:
    """The whole system. Its instance is stopped."""
    deploy_system(aws, SHORT_POLLS)
    launch.launch(aws, quiet)
    appliance.wait_for(aws, "stopped", 120)


@contextmanager
def kept_up(aws: Connection, empty_polls: int = 1000) -> Iterator[str]:
    """A running appliance under a hold, whose worker goes on polling for longer than a test lasts."""
    write_settings(aws, SHORT_POLLS | {"EMPTY_POLLS": str(empty_polls)}, quiet)
    try:
        appliance.start(aws, timedelta(minutes=10), quiet)
        instance_id = aws.instance()["InstanceId"]
        run_command.wait_online(aws, instance_id, 30)
        yield instance_id
    finally:
        write_settings(aws, SHORT_POLLS, quiet)
        aws.ec2.stop_instances(InstanceIds=[aws.instance()["InstanceId"]])
        appliance.wait_for(aws, "stopped", 90)
        appliance.resume(aws, quiet)


def fleet_settings(cloud: LocalCloud) -> OpsSettings:
    return settings_of(cloud).model_copy(
        update={
            "capacity_mode": CapacityMode.FLEET,
            "fleet_maximum": FLEET_MAXIMUM,
            "fleet_scale_out_cooldown_minutes": 0.0,  # uploads come within seconds here
        }
    )
