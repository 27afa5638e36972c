"""`python -m ops <verb>`: the commands behind the Makefile."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pymysql
import typer
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOError,
)
from pydantic import ValidationError

from contracts.jobs import EngineName
from contracts.keys import Owner
from contracts.names import IMAGE_PARAMETER
from ops.autoscaler import release as autoscaler_release
from ops.aws import logs
from ops.aws.connection import Connection
from ops.capacity import appliance, mode
from ops.capacity.image import record as record_image
from ops.cli import screen
from ops.errors import OpsError
from ops.images import bake, ingredients, packer, registry, suite
from ops.infrastructure import deploy, destroy, migrate
from ops.lessons import dead_letters, lesson
from ops.observability import alarms, dashboard, doctor, queues, status
from ops.releases import models as publishing
from ops.releases import rollout, store
from ops.releases.archive import FOLDER, build_release
from ops.releases.settings import appliance_settings
from ops.releases.wheelhouse import build_wheelhouse
from ops.settings import Cloud, OpsSettings
from whisper_processor import models

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

JobId = Annotated[str, typer.Argument(help="job id, or `last`")]
Hours = Annotated[
    float, typer.Option(help="how long the autoscaler leaves the appliance alone", min=0.01, max=168)
]
WorkMinutes = Annotated[float, typer.Option(help="how long the old appliance may take to end its lesson", min=1)]


def connect() -> Connection:
    return Connection(OpsSettings())


@app.command("deploy-infra")
def deploy_infra() -> None:
    """Create or update the foundation stack: bucket, queues, roles, launch template."""
    deploy.deploy_infra(connect(), screen.say)


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
        screen.show_versions(found)


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
    before, after = migrate.migrate(connect().database())
    screen.say(f"schema {after}" + (" (nothing to do)" if before == after else f" (was {before or 'none'})"))


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
    screen.show_images(found, registry.superfluous(found))


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
    """The checks inside a bake; Packer calls it and names the machine in its environment."""
    suite.verify_baked(os.environ)


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


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="audio or video file")],
    school: Annotated[int, typer.Option(min=1)] = 1,
    teacher: Annotated[int, typer.Option(min=1)] = 1,
    model: Annotated[str, typer.Option(help="empty: the appliance's default")] = "",
    engine: Annotated[
        str,
        typer.Option(help="openvino, faster-whisper or openai-whisper; empty: as its CPU is"),
    ] = "",
    language: Annotated[str, typer.Option(help="ISO 639-1 code; empty: detect")] = "",
) -> None:
    """Upload a recording and queue it: what the backend does. Prints the job's id."""
    request = {
        key: value for key, value in (("model", model), ("engine", engine), ("language", language)) if value
    }
    typer.echo(submit_with_progress(connect(), file, Owner(school_id=school, teacher_id=teacher), request))


def submit_with_progress(aws: Connection, file: Path, owner: Owner, request: dict[str, str]) -> str:
    if request.get("model"):
        engine = EngineName(request.get("engine", EngineName.FASTER_WHISPER))
        try:
            models.known(request["model"], engine)
        except models.ModelError as error:
            raise OpsError(str(error)) from error
    size = file.stat().st_size if file.is_file() else None
    with screen.progress_bar() as bar:
        task = bar.add_task("upload", total=size)
        return lesson.submit(aws, file, owner, request, lambda count: bar.advance(task, count))


@app.command()
def watch(
    job: JobId = "last", timeout: Annotated[float, typer.Option(help="seconds to wait at most")] = 7200.0
) -> None:
    """Show a job's progress until it ends; fails when the job failed."""
    watch_with_progress(connect(), job, timeout)


def watch_with_progress(aws: Connection, job_id: str, timeout: float) -> lesson.Job:
    job = lesson.find_job(aws, job_id)
    state, looked = "", 0.0
    with screen.progress_bar() as bar:
        task = bar.add_task("waiting", total=100)
        for now in lesson.follow(aws, job.id, timeout):
            job = now
            if time.monotonic() - looked > 1:
                found = aws.find_instance()
                state, looked = found["State"]["Name"] if found else "no machine", time.monotonic()
            bar.update(task, description=f"{job.status}, {state}", completed=job.progress)
    if job.error_message and job.status == "failed":
        raise OpsError(f"job {job.id} failed: {job.error_message}")
    return job


@app.command()
def jobs(limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """List jobs, those not yet started first, then the latest."""
    screen.show_jobs(lesson.list_jobs(connect(), limit))


@app.command()
def transcript(job: JobId = "last") -> None:
    """Print a lesson's transcript."""
    typer.echo(lesson.transcript(connect(), job).text)


@app.command("status")
def show_status(as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False) -> None:
    """One screen that tells how things are; exit code 1 when something is wrong."""
    now = status.read_status(connect())
    if as_json:
        typer.echo(now.model_dump_json(indent=2))
    else:
        screen.show_status(now)
    if not now.healthy:
        raise typer.Exit(1)


@app.command()
def start(hours: Hours = 1.0) -> None:
    """Start the appliance, and hold the autoscaler off so that it stays up."""
    aws = connect()
    mode.of(aws).start(aws, timedelta(hours=hours), screen.say)


@app.command()
def stop(hours: Hours = 1.0) -> None:
    """Stop the appliance, and hold the autoscaler off so that it stays down."""
    aws = connect()
    mode.of(aws).stop(aws, timedelta(hours=hours), screen.say)


@app.command()
def hold(hours: Hours = 1.0) -> None:
    """Keep the autoscaler from starting or stopping the appliance."""
    aws = connect()
    mode.of(aws).hold(aws, timedelta(hours=hours), screen.say)


@app.command()
def resume() -> None:
    """End a hold: the autoscaler looks after the appliance again."""
    aws = connect()
    mode.of(aws).resume(aws, screen.say)


@app.command("release")
def old_name_of_resume() -> None:
    """The old name of `resume`, for one more version."""
    screen.say("`make release` is now called `make resume`")
    resume()


@app.command("run-processor")
def run_processor(
    minutes: Annotated[float, typer.Option(help="how long at most", min=1, max=60)] = 15.0,
) -> None:
    """Run the documented manual command on the appliance, in the service's place, and show what it says."""
    typer.echo(appliance.run_processor(connect(), minutes, screen.say), nl=False)


@app.command()
def session() -> None:
    """Open a shell on the appliance (SSM Session Manager; no SSH)."""
    appliance.session(connect())


@app.command("alarms")
def show_alarms() -> None:
    """The state of each alarm and what to do about it; exit code 1 when one fires."""
    found = alarms.read_alarms(connect())
    if not found:
        raise OpsError("there are no alarms: run `make deploy`")
    screen.show_alarms(found, datetime.now(UTC))
    if any(alarm.fires for alarm in found):
        raise typer.Exit(1)


@app.command("dashboard")
def show_dashboard() -> None:
    """The dashboard's numbers, and on AWS where to look at it."""
    aws = connect()
    rows = dashboard.read_dashboard(aws, datetime.now(UTC))
    screen.show_dashboard(rows, list(dashboard.WINDOWS))
    if aws.settings.cloud is Cloud.AWS:
        screen.say(dashboard.url(aws))


@app.command("doctor")
def show_doctor() -> None:
    """Walk the troubleshooting paths: what is wrong, and what mends it; exit code 1 when something is."""
    wrong = 0
    path = ""
    for check in doctor.examine(connect()):
        screen.show_check(check, new_path=check.path != path)
        path = check.path
        wrong += check.verdict is doctor.Verdict.WRONG
    if wrong:
        raise typer.Exit(1)


@app.command("destroy")
def run_destroy(
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    lose_queue: Annotated[bool, typer.Option(help="even when lessons wait in the queues that go")] = False,
) -> None:
    """Take everything down but lessons, transcripts, secret and database; asks first."""
    aws = connect()
    for line in destroy.plan(aws, lose_waiting=lose_queue):
        screen.say(line)
    if not yes:
        if not sys.stdin.isatty():
            raise OpsError("nothing was changed: confirm with YES=1")
        typer.confirm("Destroy it?", abort=True)
    destroy.destroy(aws, screen.say)


@app.command()
def queue() -> None:
    """How many messages wait, are in flight, are delayed, and are dead."""
    now = queues.read_queue(connect())
    screen.say(f"{now.visible} visible, {now.in_flight} in flight, {now.delayed} delayed, {now.dead} dead letters")


@app.command()
def dlq(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50) -> None:
    """What lies in the dead-letter queue, and why."""
    letters = dead_letters.look(connect(), limit)
    for letter in letters:
        screen.say(f"{letter.job_id or 'unreadable'}: {letter.reason}")
    screen.say(f"{len(letters)} dead letters")


@app.command()
def redrive(
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    dry_run: Annotated[bool, typer.Option(help="only say what would go back")] = False,
) -> None:
    """Send dead letters to the lesson queue again, with their attempts at zero."""
    count = dead_letters.redrive(connect(), limit, dry_run=dry_run, say=screen.say)
    screen.say(f"{count} {'would go' if dry_run else 'went'} back to the lesson queue")


@app.command("logs")
def show_logs(
    minutes: Annotated[int, typer.Option(help="how far back", min=1)] = 15,
    follow: Annotated[bool, typer.Option(help="go on until Ctrl-C")] = False,
) -> None:
    """The autoscaler's and the processor's events in order of time."""
    aws, since = connect(), datetime.now(UTC) - timedelta(minutes=minutes)
    seen: set[tuple[datetime, str]] = set()
    while True:
        for event in logs.read_events(aws, since):
            text = " ".join(f"{k}={v}" for k, v in event.fields.items() if k not in {"time", "worker", "snapshot"})
            if (event.time, text) not in seen:
                seen.add((event.time, text))
                typer.echo(f"{event.time:%H:%M:%S} {event.source:<20} {text}")
        if not follow:
            return
        time.sleep(2)


_REFUSED_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"),
    *("AuthFailure", "SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestExpired"),
}


def explain(error: Exception, settings: OpsSettings | None) -> str:  # noqa: PLR0911 - one line each
    """One line that says what is wrong and what to do."""
    local = settings is None or settings.cloud is Cloud.LOCAL
    match error:
        case EndpointConnectionError() | ConnectTimeoutError() if local:
            return "the local cloud is not up: run `make up`"
        case EndpointConnectionError() | ConnectTimeoutError():
            return f"AWS cannot be reached; is AWS_REGION right? ({error})"
        case SSLError() if local:
            return "the local cloud's TLS does not fit: was it started with the same LOCAL_AUTH? `make down up`"
        case NoCredentialsError():
            return "no AWS credentials: set AWS_PROFILE in .env or log in"
        case PartialCredentialsError() | SSOError() | CredentialRetrievalError():
            return f"the AWS credentials cannot be used: {error}; log in again"
        case ProfileNotFound():
            return f"{error}: correct AWS_PROFILE in .env"
        case NoRegionError():
            return "no AWS region: set AWS_REGION in .env"
        case pymysql.MySQLError() if local:
            return f"the local database does not answer: run `make up` ({error.args[-1]})"
        case pymysql.MySQLError():
            return f"the database does not answer; is this machine let in? ({error.args[-1]})"
        case ClientError() if error.response["Error"]["Code"] in _REFUSED_CREDENTIALS:
            return f"AWS refuses the credentials, they are wrong or expired: log in again ({error.operation_name})"
        case ClientError():
            return f"AWS refused {error.operation_name}: {error.response['Error'].get('Message', error)}"
        case ValidationError():
            return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return " ".join(str(error).split())


def run(application: typer.Typer) -> int:
    """Run a command line; errors an operator can mend become one line and exit code 1."""
    settings: OpsSettings | None = None
    try:
        settings = OpsSettings()
        application()
    except (OpsError, BotoCoreError, ClientError, pymysql.MySQLError, ValidationError) as error:
        sys.stderr.write(f"error: {explain(error, settings)}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(run(app))
