"""Verbs for models: fetch them, and put them into the bucket."""

from __future__ import annotations

from typing import Annotated

import typer

from contracts.jobs import EngineName
from ops.aws.connection import connect
from ops.cli import screen
from ops.errors import OpsError
from ops.releases import models as publishing
from ops.settings import OpsSettings
from whisper_processor import models

app = typer.Typer()


@app.command("models")
def fetch_models(
    name: Annotated[str, typer.Argument(help="model, e.g. base")] = "base",
    engine: Annotated[EngineName, typer.Option(help="which engine's format")] = EngineName.FASTER_WHISPER,
) -> None:
    """Fetch a model and verify it by sha256; afterwards no network is needed."""
    settings = OpsSettings()
    try:
        models.fetch(name, engine, settings.models_dir, settings.models_from, screen.say)
    except models.ModelError as error:
        raise OpsError(str(error)) from error
    screen.say(f"model {name} for {engine} is in place and verified")


@app.command("publish-model")
def publish_model(
    name: Annotated[str, typer.Argument(help="model, e.g. base")] = "base",
    engine: Annotated[EngineName, typer.Option(help="which engine's format")] = EngineName.FASTER_WHISPER,
) -> None:
    """Put a model into the bucket, from where appliances that lack it fetch it when a job asks for it."""
    try:
        publishing.publish(connect(), name, engine, OpsSettings().models_dir, screen.say)
    except models.ModelError as error:
        raise OpsError(f"{error} Run `make models MODEL={name}` first.") from error
    screen.say(f"model {name} for {engine} is in the bucket")
