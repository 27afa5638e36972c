"""`python -m local <verb>`: the local cloud, and the demo on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from local.cloud import LocalCloud
from local.demo import demo as run_demo
from local.machines import MachineKind
from ops import screen
from ops.__main__ import run
from ops.errors import OpsError
from ops.settings import REPOSITORY, Cloud, OpsSettings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def local_cloud() -> LocalCloud:
    """The local cloud as `.env` describes it. Raises OpsError when `.env` points at AWS."""
    settings = OpsSettings()
    if settings.cloud is not Cloud.LOCAL:
        raise OpsError("CLOUD=aws is set: this verb is about the local cloud, run it with CLOUD=local")
    return LocalCloud(
        root=settings.local_root,
        emulator_python=REPOSITORY / ".local" / "emulator-venv" / "bin" / "python",
        models_dir=settings.models_dir,
        machine=MachineKind(settings.local_machine),
        strict=settings.local_auth,
        region=settings.aws_region,
        port=settings.local_port,
        database_port=settings.local_db_port,
    )


@app.command()
def up() -> None:
    """Start the local cloud: emulator, database, supervisor."""
    local_cloud().up(screen.say)


@app.command()
def down() -> None:
    """Stop the local cloud; its data stays."""
    local_cloud().down(screen.say)


@app.command()
def clean() -> None:
    """Stop the local cloud and delete its data. Models and venvs stay."""
    local_cloud().destroy(screen.say)


@app.command()
def demo(file: Annotated[Path, typer.Argument(help="audio or video file")]) -> None:
    """The whole pipeline on this machine, from upload to the stopped instance."""
    run_demo(local_cloud(), file)


if __name__ == "__main__":
    sys.exit(run(app))
