"""`make plan-check`: lessons through a local cloud of its own, and through the simulation."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import typer

from contracts.capacity import CapacityMode
from contracts.jobs import EngineName
from ops.autoscaler import release
from ops.aws.connection import Connection
from ops.capacity import mode
from ops.cli import screen
from ops.cli.errors import run as run_app
from ops.infrastructure import deploy, migrate
from ops.releases.settings import write_settings
from ops.settings import REPOSITORY, OpsSettings
from testbed.cloud import MODELS, private_cloud, settings_of
from tests.scenarios.reality.rehearsal import FLEET, FLEET_SETTINGS, FULL, SETTINGS, rehearse
from whisper_processor import models

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def check() -> None:
    """Compare the planner's simulation with a real run on this machine; CAPACITY_MODE says of what."""
    began = time.monotonic()
    models.fetch("base", EngineName.FASTER_WHISPER, MODELS, None, screen.say)
    with tempfile.TemporaryDirectory(prefix="plan-check-", dir=REPOSITORY / ".local") as folder:
        screen.say("a local cloud of its own, deployed as by `make up deploy`")
        with private_cloud(Path(folder) / "cloud", MODELS) as cloud:
            fleet = OpsSettings().capacity_mode is CapacityMode.FLEET
            aws = Connection(settings_of(cloud).model_copy(update=FLEET if fleet else {}))
            _deploy(aws, FLEET_SETTINGS if fleet else SETTINGS)
            compared = rehearse(aws, Path(folder), FULL, screen.say)
    screen.console.print(compared.table())
    here, simulated = compared.means
    problems = list(compared.problems())
    for problem in problems:
        screen.console.print(f"! {problem}", markup=False, soft_wrap=True)
    screen.say(
        f"plan-check: mean wait {here:.1f} s here, {simulated:.1f} s simulated, rank correlation"
        f" {compared.rank_correlation:.2f}, {time.monotonic() - began:.0f} s, {len(problems)} problems"
    )
    if problems:
        raise typer.Exit(1)


def _deploy(aws: Connection, settings: Mapping[str, str]) -> None:
    deploy.deploy_infra(aws, screen.say)
    migrate.migrate(aws.database())
    release.deploy(aws, screen.say)
    write_settings(aws, settings, screen.say)
    mode.of(aws).launch(aws, screen.say)
    mode.of(aws).wait_idle(aws, 120)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the cloud is ended then, too
    sys.exit(run_app(app))
