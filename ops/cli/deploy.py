"""Verbs that deploy: stacks, the autoscaler, settings, releases, machines and the database's tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from ops.autoscaler import release as autoscaler_release
from ops.aws.connection import connect
from ops.capacity import mode
from ops.cli import screen, tables
from ops.infrastructure import deploy as infrastructure
from ops.releases import rollout, store
from ops.releases.archive import FOLDER, build_release
from ops.releases.settings import appliance_settings
from ops.releases.wheelhouse import build_wheelhouse

app = typer.Typer()

WorkMinutes = Annotated[float, typer.Option(help="how long the old appliance may take to end its lesson", min=1)]


@app.command("deploy-infra")
def deploy_infra() -> None:
    """Create or update the foundation stack: bucket, queues, roles, launch template."""
    infrastructure.deploy_infra(connect(), screen.say)


@app.command("deploy-lambda")
def deploy_lambda() -> None:
    """Deploy the autoscaler's stack; a new version of the function ticks once a dry run of it has succeeded."""
    autoscaler_release.deploy(connect(), screen.say)


@app.command("rollback-lambda")
def rollback_lambda(
    version: Annotated[str, typer.Option(help="a version's number; empty: the one before the live one")] = "",
) -> None:
    """Let an earlier version of the autoscaler tick again, after a dry run of it."""
    autoscaler_release.rollback(connect(), version, screen.say)


@app.command("deploy-config")
def deploy_config() -> None:
    """Send the appliance's settings of .env to Parameter Store, and let running appliances read them."""
    rollout.deploy_config(connect(), appliance_settings(), screen.say)


@app.command("deploy-processor")
def deploy_processor() -> None:
    """Build this checkout's processor as a release, and install it on every appliance, now or at its next boot."""
    rollout.deploy_processor(connect(), lambda: build_release(build_wheelhouse(FOLDER, screen.say)), screen.say)


@app.command()
def rollback(
    version: Annotated[str, typer.Argument(help="release or version; empty: the last")] = "",
) -> None:
    """Go back to the release that was wanted before, or to a named one, on every appliance."""
    rollout.rollback(connect(), version, screen.say)


@app.command()
def versions(as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False) -> None:
    """The releases in the bucket, which is wanted, and what runs where."""
    found = store.versions(connect())
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        tables.show_versions(found)


@app.command()
def launch() -> None:
    """Launch the appliance from the launch template, unless there is one."""
    aws = connect()
    mode.of(aws).launch(aws, screen.say)


@app.command("replace")
def replace_appliance(minutes: WorkMinutes = 120.0) -> None:
    """Replace the appliance by one of the newest image, once that one works; the old one ends its lesson first."""
    aws = connect()
    mode.of(aws).replace(aws, screen.say, timedelta(minutes=minutes))


@app.command("roll")
def old_name_of_replace(minutes: WorkMinutes = 120.0) -> None:
    """The old name of `replace`, for one more version."""
    screen.say("`make roll` is now called `make replace`")
    replace_appliance(minutes)


@app.command("migrate")
def run_migrations() -> None:
    """Bring the database's tables up to date; safe to repeat."""
    from ops.infrastructure import migrate  # noqa: PLC0415 - Alembic would be a third of every verb's start

    before, after = migrate.migrate(connect().database())
    screen.say(f"schema {after}" + (" (nothing to do)" if before == after else f" (was {before or 'none'})"))
