"""`python -m local <verb>`: the local cloud, and the demo on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from local.demo import demo as run_demo
from local.images import image_tests
from local.images.current import Baked
from local.images.rehearsal import make_image, replace_other_image
from local.machines import MachineKind
from local.machines.base import Shell
from local.platform.channel import ChannelError, ask
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection
from ops.cli import screen
from ops.cli.errors import run
from ops.errors import OpsError
from ops.infrastructure import migrate
from ops.settings import Cloud, OpsSettings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def local_cloud() -> LocalCloud:
    """The local cloud as `.env` describes it. Raises OpsError when `.env` points at AWS."""
    settings = OpsSettings()
    if settings.cloud is not Cloud.LOCAL:
        raise OpsError("CLOUD=aws is set: this verb is about the local cloud, run it with CLOUD=local")
    return LocalCloud(
        root=settings.local_root,
        models_dir=settings.models_dir,
        machine=MachineKind(settings.local_machine),
        strict=settings.local_auth,
        region=settings.aws_region,
        port=settings.local_port,
        database_port=settings.local_db_port,
    )


def bake(*, force: bool = False) -> Baked:
    """Bake the image if its inputs changed. A local cloud that is up launches from it from now on."""
    cloud = local_cloud()
    baked = make_image(OpsSettings(), screen.say, force=force)
    if cloud.is_up():
        cloud.offer_image()
    return baked


@app.command()
def up() -> None:
    """Start the local cloud (emulator, database, supervisor) and create the tables."""
    local_cloud().up(screen.say)
    migrate.migrate(Connection(OpsSettings()).database())


@app.command()
def down() -> None:
    """Stop the local cloud; its data stays."""
    local_cloud().down(screen.say)


@app.command()
def clean() -> None:
    """Stop the local cloud and delete its data. Models and venvs stay."""
    local_cloud().destroy(screen.say)


@app.command()
def session(instance: Annotated[str, typer.Argument(help="instance id")]) -> None:
    """Open a shell on the machine behind an instance."""
    cloud = local_cloud()
    try:
        shell = Shell(**ask(cloud.root, {"do": "shell", "instance": instance}, timeout=10))
    except ChannelError as error:
        raise OpsError(f"no session: {error}; run `make up`") from error
    screen.say(f"a shell on {instance} ({cloud.machine}); `exit` ends it")
    os.chdir(shell.cwd)
    os.execve(shell.argv[0], list(shell.argv), shell.env)  # noqa: S606


@app.command()
def demo(file: Annotated[Path, typer.Argument(help="audio or video file")]) -> None:
    """The whole pipeline on this machine, from upload to the stopped instance."""
    run_demo(local_cloud(), file)


@app.command("image")
def bake_image(force: Annotated[bool, typer.Option(help="bake although nothing changed")] = False) -> None:
    """Bake the appliance's image on this machine, as `make ami` does on AWS."""
    bake(force=force)


@app.command("test-image")
def check_image() -> None:
    """Boot a fresh copy of the image and test it over SSH; run the roles again, which must change nothing."""
    image_tests.check(OpsSettings(), screen.say)


@app.command()
def rehearse(file: Annotated[Path, typer.Argument(help="audio or video file")]) -> None:
    """The demo with the real appliance: each instance boots a copy of the image."""
    settings = OpsSettings()
    baked = bake()
    cloud = local_cloud()
    cloud.up(screen.say)
    replace_other_image(Connection(settings), baked.image_id, screen.say)
    run_demo(cloud, file)


if __name__ == "__main__":
    sys.exit(run(app))
