"""A private local cloud: free ports and a folder of its own. It is stopped and deleted at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local.machines import MachineKind
from local.platform.cloud import LocalCloud
from local.platform.ports import free_port
from ops.aws.connection import Connection
from ops.infrastructure import deploy, migrate
from ops.settings import REPOSITORY, Cloud, OpsSettings

Say = Callable[[str], None]
MODELS = REPOSITORY / ".local" / "models"


def quiet(_text: str) -> None:
    """Print nothing."""


@contextmanager
def private_cloud(
    root: Path,
    models_dir: Path = MODELS,
    *,
    machine: MachineKind = MachineKind.PROCESS,
    strict: bool = False,
    say: Say = quiet,
) -> Iterator[LocalCloud]:
    """A local cloud that runs, with nothing deployed on it. `root` is deleted at the end."""
    cloud = LocalCloud(
        root=root,
        models_dir=models_dir,
        machine=machine,
        strict=strict,
        port=free_port(),
        database_port=free_port(),
    )
    try:
        cloud.up(say)
        yield cloud
    finally:
        cloud.destroy(say)


def settings_of(cloud: LocalCloud, base: OpsSettings | None = None) -> OpsSettings:
    """An operator's settings for this cloud. Everything else is as in `base`, or at its default."""
    return (base or OpsSettings(_env_file=None)).model_copy(
        update={
            "cloud": Cloud.LOCAL,
            "local_port": cloud.port,
            "local_db_port": cloud.database_port,
            "local_root": cloud.root,
            "local_auth": cloud.strict,
            "local_machine": str(cloud.machine),
        }
    )


def command_environment(settings: OpsSettings) -> dict[str, str]:
    """The environment in which a verb finds this cloud."""
    return {
        "CLOUD": str(settings.cloud),
        "LOCAL_PORT": str(settings.local_port),
        "LOCAL_DB_PORT": str(settings.local_db_port),
        "LOCAL_ROOT": str(settings.local_root),
        "LOCAL_MACHINE": settings.local_machine,
        "LOCAL_AUTH": str(settings.local_auth).lower(),
    }


@dataclass(frozen=True)
class Bed:
    """A private cloud with bucket, queues and tables, and without an appliance."""

    root: Path
    cloud: LocalCloud
    aws: Connection

    @property
    def bucket(self) -> str:
        return self.aws.foundation["BucketName"]

    @property
    def queue_url(self) -> str:
        return self.aws.foundation["QueueUrl"]


@contextmanager
def open_bed(prefix: str, models_dir: Path = MODELS, say: Say = quiet) -> Iterator[Bed]:
    """In a temporary folder whose name begins with `prefix`."""
    with tempfile.TemporaryDirectory(prefix=prefix) as folder:
        root = Path(folder)
        with private_cloud(root / "cloud", models_dir, say=say) as cloud:
            aws = Connection(settings_of(cloud))
            deploy.deploy_infra(aws, say)
            migrate.migrate(aws.database())
            yield Bed(root, cloud, aws)
