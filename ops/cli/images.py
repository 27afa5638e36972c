"""Verbs for the appliance's images: bake, test, list and prune."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from contracts.names import IMAGE_PARAMETER
from ops.aws.connection import connect
from ops.capacity.image import record as record_image
from ops.cli import screen, tables
from ops.errors import OpsError
from ops.images import bake, ingredients, packer, registry, suite
from ops.releases import store
from ops.settings import Cloud

app = typer.Typer()


@app.command("validate-image")
def validate_image() -> None:
    """Check Packer's templates with whichever Packer is installed; says what it could not check."""
    packer.validate(screen.say)


@app.command()
def ami() -> None:
    """Bake the appliance's AMI on AWS, record its id for `launch`, print it."""
    aws = connect()
    if aws.settings.cloud is not Cloud.AWS:
        raise OpsError("an AMI is baked on AWS: set CLOUD=aws in .env; `make image` bakes the rehearsal's here")
    aws.ec2.describe_availability_zones()  # a bake that lacks credentials is to fail now, not in ten minutes
    gathered = ingredients.gather(aws.settings, screen.say)
    image_id = bake.bake(aws.settings, gathered, screen.say)
    record_image(aws, image_id)
    wanted = store.read_wanted(aws)
    if wanted is not None and wanted.release.name != gathered.built.release.name:
        screen.say(f"{wanted.release.name} is wanted, the image brings {gathered.built.release.name}:")
        screen.say(
            "machines made of it go back to the wanted one at their first boot, unless you `make deploy-processor`"
        )
    screen.say(f"recorded in {IMAGE_PARAMETER}; `make deploy-infra` and `make launch` use it from now on")
    typer.echo(image_id)


@app.command("images")
def show_images() -> None:
    """The appliance's AMIs: when and of what each was baked, its snapshots, and what refers to it."""
    aws = connect()
    found = registry.read_images(aws)
    if not found:
        screen.say("EC2 has no image of the appliance: `make ami` bakes one")
        return
    tables.show_images(found, registry.superfluous(found))


@app.command("prune-images")
def prune_images(
    yes: Annotated[bool, typer.Option("--yes", help="delete; without it only what would go is said")] = False,
) -> None:
    """Delete AMIs, with their snapshots, that nothing refers to, but the newest two; without --yes only say so."""
    count = registry.prune(connect(), screen.say, delete=yes)
    if not yes:
        screen.say(f"{count} images would go" + ("; YES=1 deletes them" if count else ""))
    else:
        screen.say(f"{count} images are deleted")


@app.command("test-ami")
def test_ami(hosts: Annotated[str, typer.Argument(help="i-…[,i-…] over SSM, or ssh://user@address")]) -> None:
    """Run the image's tests against running appliances; a deadline for each command, nothing is left behind."""
    named = [host for host in hosts.split(",") if host]
    wrong = [host for host in named if not host.startswith(("i-", "ssh://"))]
    if not named or wrong:
        raise OpsError(f"HOSTS takes i-… or ssh://user@address, separated by commas, not {hosts or 'nothing'}")
    if instances := [host for host in named if host.startswith("i-")]:
        connect().ec2.describe_instances(InstanceIds=instances)  # one line for a wrong id, not a test report
    suite.run_suite(hosts, "", {})


@app.command("verify-baked", hidden=True)
def verify_baked() -> None:
    """The checks inside a bake. Packer calls it, with the machine in its environment."""
    suite.verify_baked(os.environ)
