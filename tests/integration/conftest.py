"""A local cloud of the tests' own: free ports, a temporary folder, started by the code behind `make up`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.capacity import CapacityMode
from contracts.jobs import EngineName
from local.platform.cloud import LocalCloud
from local.platform.mariadb import MariaDB
from ops.autoscaler import release
from ops.aws import run_command
from ops.aws.connection import Connection
from ops.capacity import appliance, launch
from ops.infrastructure import deploy, migrate
from ops.releases.settings import write_settings
from ops.settings import REPOSITORY, Cloud, OpsSettings
from whisper_processor import models

MODELS = REPOSITORY / ".local" / "models"
FLEET_POLLS = {
    "POLL_WAIT_SECONDS": "1",
    "VISIBILITY_TIMEOUT_SECONDS": "10",
    "PROGRESS_SECONDS": "0.5",
    "WHISPER_THREADS": "1",  # several workers share a few cores
}
SHORT_POLLS = {"POLL_WAIT_SECONDS": "1", "PROGRESS_SECONDS": "0.3", "BACKOFF_BASE_SECONDS": "1"}


def quiet(_text: str) -> None:
    """Tests say nothing."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The real base model for both engines, fetched once and kept for the next run."""
    for engine in EngineName:
        models.fetch("base", engine, MODELS, None, quiet)
    return MODELS


@contextmanager
def running_cloud(root: Path, models_dir: Path, *, strict: bool = False) -> Iterator[LocalCloud]:
    cloud = LocalCloud(
        root=root,
        emulator_python=REPOSITORY / ".local" / "emulator-venv" / "bin" / "python",
        models_dir=models_dir,
        port=free_port(),
        database_port=free_port(),
        strict=strict,
    )
    try:
        cloud.up(quiet)
        yield cloud
    finally:
        cloud.destroy(quiet)


def settings_of(cloud: LocalCloud) -> OpsSettings:
    return OpsSettings(
        _env_file=None,
        cloud=Cloud.LOCAL,
        local_port=cloud.port,
        local_db_port=cloud.database_port,
        local_root=cloud.root,
        local_auth=cloud.strict,
    )


def deploy_all(aws: Connection) -> None:
    """The whole system, its instance stopped."""
    deploy.deploy_infra(aws, quiet)
    migrate.migrate(aws.database())
    release.deploy(aws, quiet)
    write_settings(aws, SHORT_POLLS, quiet)
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


@pytest.fixture(scope="session")
def local_cloud(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud"), models_dir) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def settings(local_cloud: LocalCloud) -> OpsSettings:
    return settings_of(local_cloud)


@pytest.fixture(scope="session")
def deployed(settings: OpsSettings) -> Connection:
    """The whole system on the tests' cloud."""
    aws = Connection(settings)
    deploy_all(aws)
    return aws


FLEET_MAXIMUM = 3


def fleet_settings(cloud: LocalCloud) -> OpsSettings:
    return settings_of(cloud).model_copy(
        update={
            "capacity_mode": CapacityMode.FLEET,
            "fleet_maximum": FLEET_MAXIMUM,
            "fleet_scale_out_cooldown_minutes": 0.0,  # uploads come in seconds here, not over a morning
        }
    )


@pytest.fixture(scope="session")
def fleet_cloud(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with running_cloud(tmp_path_factory.mktemp("fleet"), models_dir) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def fleet_deployed(fleet_cloud: LocalCloud) -> Connection:
    """The whole system with CAPACITY_MODE=fleet, on a cloud of its own; the fleet is empty."""
    aws = Connection(fleet_settings(fleet_cloud))
    deploy.deploy_infra(aws, quiet)
    migrate.migrate(aws.database())
    release.deploy(aws, quiet)
    write_settings(aws, FLEET_POLLS, quiet)
    return aws


@pytest.fixture
def command_environment(settings: OpsSettings) -> dict[str, str]:
    """For running a verb as an operator does, against the tests' cloud."""
    return os.environ | {
        "CLOUD": "local",
        "LOCAL_PORT": str(settings.local_port),
        "LOCAL_DB_PORT": str(settings.local_db_port),
        "LOCAL_ROOT": str(settings.local_root),
    }


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A database that no other test looks at."""
    server = MariaDB(tmp_path_factory.mktemp("database"), free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
