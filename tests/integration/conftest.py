"""The clouds that several test files share. Each is built by `testbed` and removed at the end of the session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.jobs import EngineName
from local.platform.cloud import LocalCloud
from local.platform.mariadb import MariaDB
from local.platform.ports import free_port
from ops.aws.connection import Connection
from ops.settings import OpsSettings
from testbed import cloud, system
from testbed.cloud import MODELS, private_cloud, quiet, settings_of
from whisper_processor import models


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The real base model for both engines, fetched once and kept for the next run."""
    for engine in EngineName:
        models.fetch("base", engine, MODELS, None, quiet)
    return MODELS


@pytest.fixture(scope="session")
def local_cloud(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with private_cloud(tmp_path_factory.mktemp("cloud"), models_dir) as running:
        yield running


@pytest.fixture(scope="session")
def settings(local_cloud: LocalCloud) -> OpsSettings:
    return settings_of(local_cloud)


@pytest.fixture(scope="session")
def deployed(settings: OpsSettings) -> Connection:
    """The whole system on the tests' cloud."""
    aws = Connection(settings)
    system.deploy_all(aws)
    return aws


@pytest.fixture(scope="session")
def fleet_cloud(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with private_cloud(tmp_path_factory.mktemp("fleet"), models_dir) as running:
        yield running


@pytest.fixture(scope="session")
def fleet_deployed(fleet_cloud: LocalCloud) -> Connection:
    """The whole system with CAPACITY_MODE=fleet, on a cloud of its own; the fleet is empty."""
    aws = Connection(system.fleet_settings(fleet_cloud))
    system.deploy_system(aws, system.FLEET_POLLS)
    return aws


@pytest.fixture
def command_environment(settings: OpsSettings) -> dict[str, str]:
    """For running a verb as an operator does, against the tests' cloud."""
    return os.environ | cloud.command_environment(settings)


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A database that no other test looks at."""
    server = MariaDB(tmp_path_factory.mktemp("database"), free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
