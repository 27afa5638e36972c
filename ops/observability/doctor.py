"""The three troubleshooting paths, walked: instance not starting, processor not running, database errors."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pymysql
from botocore.exceptions import BotoCoreError, ClientError

from contracts.heartbeat import is_silent, parse_heartbeat
from contracts.hold import parse_hold
from contracts.metrics import NAMESPACE
from contracts.names import DATABASE_SECRET, SERVICE
from contracts.tags import HEARTBEAT_TAG, HOLD_TAG
from ops.autoscaler.release import ALIAS
from ops.aws import metrics, run_command
from ops.aws.connection import Connection
from ops.capacity import fleet
from ops.errors import OpsError
from ops.observability.status import is_fleet, read_decision, read_queue
from ops.releases.store import on_processes, read_wanted, running_release

IMPORTS = "python3.11 -c \"import whisper; import boto3; print('All imports OK')\""
_COMMAND_SECONDS = 120.0
_SECRET_KEYS = {"host", "port", "username", "password", "dbname"}
_COLUMNS = "id, status, progress, attempts, model, engine, language, duration_seconds, worker"
NOT_STARTING, NOT_RUNNING, DATABASE = (
    "The instance does not start",
    "The processor does not run",
    "Database errors",
)


class Verdict(StrEnum):
    OK = "ok"
    WRONG = "WRONG"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Check:
    path: str
    name: str
    verdict: Verdict
    detail: str
    mend: str = ""
    """The command that mends it; empty when nothing is to be mended."""


class Wrong(Exception):
    """What is wrong, and the command that mends it."""

    def __init__(self, detail: str, mend: str) -> None:
        super().__init__(detail)
        self.mend = mend


class Skip(Exception):
    """Why a check says nothing now."""


Step = Callable[[], str]


def examine(aws: Connection) -> Iterator[Check]:
    """Walk the paths, one check after the other; a check that cannot be made is a finding too.

    Raises OpsError when there is nothing to examine, because nothing is deployed.
    """
    visit = _Visit(aws)
    visit.stacks()
    for path, name, step in (
        (NOT_STARTING, "infrastructure", visit.stacks),
        (NOT_STARTING, "rule", visit.rule),
        (NOT_STARTING, "autoscaler errors", visit.function_errors),
        (NOT_STARTING, "capacity mode", visit.mode),
        (NOT_STARTING, "last decision", visit.decision),
        (NOT_STARTING, "upload notification", visit.notification),
        (NOT_STARTING, "appliance", visit.appliance),
        (NOT_STARTING, "hold", visit.hold),
        (NOT_STARTING, "capacity", visit.capacity),
        (NOT_RUNNING, "SSM", visit.ssm),
        (NOT_RUNNING, "service", visit.service),
        (NOT_RUNNING, "imports", visit.imports),
        (NOT_RUNNING, "release", visit.release),
        (NOT_RUNNING, "heartbeat", visit.heartbeat),
        (NOT_RUNNING, "dead letters", visit.dead_letters),
        (DATABASE, "secret", visit.secret),
        (DATABASE, "reachable from the appliance", visit.reachable_from_machine),
        (DATABASE, "reachable from here", visit.reachable_from_here),
        (DATABASE, "tables", visit.tables),
    ):
        yield _take(path, name, step)


def _take(path: str, name: str, step: Step) -> Check:
    try:
        return Check(path, name, Verdict.OK, step())
    except Wrong as wrong:
        return Check(path, name, Verdict.WRONG, str(wrong), wrong.mend)
    except Skip as skip:
        return Check(path, name, Verdict.SKIPPED, str(skip))
    except run_command.NotReachable as error:
        return Check(path, name, Verdict.SKIPPED, str(error).partition(":")[0])
    except (OpsError, ClientError) as error:
        return Check(path, name, Verdict.WRONG, str(error), "make deploy")


class _Visit:
    def __init__(self, aws: Connection) -> None:
        self._aws = aws
        self._now = datetime.now(UTC)

    def stacks(self) -> str:
        if not self._aws.foundation or not self._aws.autoscaler:
            raise Wrong("a stack has no outputs", "make deploy")
        return f"{self._aws.settings.foundation_stack} and {self._aws.settings.autoscaler_stack}"

    def rule(self) -> str:
        if "RuleName" not in self._aws.autoscaler:
            raise Wrong("no version of the autoscaler is live", "make deploy-lambda")
        name = self._aws.autoscaler["RuleName"].rsplit("/", 1)[-1]
        rule = self._aws.events.describe_rule(Name=name)
        if rule["State"] != "ENABLED":
            raise Wrong(f"{name} is {rule['State']}", f"aws events enable-rule --name {name}")
        return f"{name} is enabled, {rule['ScheduleExpression']}"

    def function_errors(self) -> str:
        name = {"FunctionName": self._aws.autoscaler["FunctionName"]}
        errors = self._sum(metrics.Metric("AWS/Lambda", "Errors", name))
        if errors:
            raise Wrong(f"{errors:.0f} in the last hour", "make logs MINUTES=60")
        return "none in the last hour"

    def decision(self) -> str:
        decision = read_decision(self._aws, self._now)
        if decision is None:
            raise Wrong("the autoscaler has not run for 15 minutes", "make deploy-lambda")
        if decision.outcome == "dry-run":
            raise Wrong("the autoscaler only says what it would do", "make deploy-lambda AUTOSCALER_DRY_RUN=false")
        return f"{decision.action}, {decision.age_seconds:.0f} s ago: {decision.reason}"

    def notification(self) -> str:
        bucket, arn = self._aws.foundation["BucketName"], self._aws.autoscaler.get("LiveArn")
        found = self._aws.s3.get_bucket_notification_configuration(Bucket=bucket)
        if arn not in {c["LambdaFunctionArn"] for c in found.get("LambdaFunctionConfigurations", [])}:
            raise Wrong(f"{bucket} does not tell the autoscaler of uploads", "make deploy-lambda")
        return f"{bucket} tells the autoscaler of uploads"

    def mode(self) -> str:
        name = self._aws.autoscaler["FunctionName"]
        live = self._aws.functions.get_function_configuration(FunctionName=name, Qualifier=ALIAS)
        variables = live["Environment"]["Variables"]
        deployed, wanted = variables.get("CAPACITY_MODE", "instance"), self._aws.settings.capacity_mode
        if deployed != wanted:
            raise Wrong(f"the autoscaler runs {deployed}, .env says {wanted}", "make deploy-infra deploy-lambda")
        return deployed

    def appliance(self) -> str:
        if is_fleet(self._aws):
            group = fleet.find_group(self._aws)
            if group is None:
                raise Wrong("there is no fleet", "make deploy-infra deploy-lambda")
            return fleet.say_group(group)
        instance = self._aws.find_instance()
        if instance is None:
            raise Wrong("there is none", "make launch")
        return f"{instance['InstanceId']} is {instance['State']['Name']}"

    def hold(self) -> str:
        hold = parse_hold(self._held().get(HOLD_TAG))
        if hold is None or not hold.active_at(self._now):
            return "none"
        if read_queue(self._aws).backlog:
            raise Wrong(f"held by {hold.by} while lessons wait", "make resume")
        return f"by {hold.by} until {hold.until or 'released'}; nothing waits"

    def capacity(self) -> str:
        refused = self._sum(metrics.Metric(NAMESPACE, "CapacityErrors", {}))
        if refused:
            raise Wrong(
                f"AWS had no capacity {refused:.0f} times in the last hour",
                "make replace with another INSTANCE_TYPE in .env",
            )
        return "no start was refused in the last hour"

    def ssm(self) -> str:
        instance_id = self._running()
        if not run_command.is_online(self._aws, instance_id):
            raise Wrong(f"{instance_id} is not online", "make stop start (the agent, its role or its way to AWS)")
        return f"{instance_id} is online"

    def service(self) -> str:
        ended = self._on_machine(f"systemctl is-active {SERVICE}")
        if not ended.succeeded:
            said = ended.stdout.strip() or ended.stderr.strip()
            raise Wrong(f"{SERVICE} is {said}", "make run-processor (shows why it fails), make logs")
        return f"{SERVICE} is active"

    def imports(self) -> str:
        ended = self._on_machine(IMPORTS)
        if not ended.succeeded:
            said = (ended.stderr.strip().splitlines() or ["no message"])[-1]
            raise Wrong(said, "make run-processor (or deploy the processor or the image again)")
        return ended.stdout.strip()

    def release(self) -> str:
        wanted = read_wanted(self._aws)
        if wanted is None:
            return "none is wanted; each appliance runs its image's"
        name = wanted.release.name
        running: list[str] = []
        for instance in self._aws.instances():
            runs = running_release(instance)
            if instance["State"]["Name"] == "running" and runs is not None and runs != name:
                running.append(f"{instance['InstanceId']} runs {runs}")
        if running and not on_processes(self._aws):
            raise Wrong(
                f"{name} is wanted, {', '.join(running)}", "make logs (update_ended says why), make rollback"
            )
        return f"{name} is wanted; stopped appliances install it at their next boot"

    def heartbeat(self) -> str:
        instance_id = self._running()
        heartbeat = parse_heartbeat(self._tags().get(HEARTBEAT_TAG))
        if heartbeat is None:
            raise Wrong(f"{instance_id} has none", "make logs (the worker writes it at its start)")
        age = self._now - heartbeat.at
        if is_silent(heartbeat, self._now):
            raise Wrong(f"the last one is {age.total_seconds() / 60:.0f} min old", "make stop start")
        return f"{age.total_seconds():.0f} s old"

    def dead_letters(self) -> str:
        dead = read_queue(self._aws).dead
        if dead:
            raise Wrong(f"{dead} lessons could not be done", "make dlq, then make redrive")
        return "none"

    def secret(self) -> str:
        missing = _SECRET_KEYS - set(self._secret())
        if missing:
            mend = f"aws secretsmanager put-secret-value --secret-id {DATABASE_SECRET} --secret-string file://…"
            raise Wrong(f"{DATABASE_SECRET} lacks {', '.join(sorted(missing))}", mend)
        return f"{DATABASE_SECRET} is readable and complete"

    def reachable_from_machine(self) -> str:
        secret = self._secret()
        if not {"host", "port"} <= set(secret):
            raise Skip("the secret does not say where it is")
        address = (str(secret["host"]), int(secret["port"]))
        program = f"import socket; socket.create_connection({address!r}, 5)"
        ended = self._on_machine(f"python3.11 -c {shlex.quote(program)}")
        if not ended.succeeded:
            mend = "make deploy-infra with DatabaseSecurityGroupId, or admit its security group by hand"
            raise Wrong(f"{address[0]}:{address[1]} does not answer it", mend)
        return f"{address[0]}:{address[1]}"

    def reachable_from_here(self) -> str:
        try:
            self._aws.database().close()
        except KeyError as error:
            raise Skip(f"the secret has no {error}") from error
        except pymysql.MySQLError as error:
            if error.args and error.args[0] == pymysql.constants.ER.ACCESS_DENIED_ERROR:
                raise Wrong(
                    "the credentials of the secret are refused", "correct the secret, or the user"
                ) from error
            if self._aws.settings.endpoint is None:
                raise Skip("no; only the appliance has to reach it") from error
            raise Wrong(f"it does not answer: {error.args[-1]}", "make up") from error
        return "yes"

    def tables(self) -> str:
        try:
            with self._aws.database() as database, database.cursor() as cursor:
                cursor.execute(f"SELECT {_COLUMNS} FROM audio_jobs LIMIT 1")  # noqa: S608 - our own words
        except KeyError as error:
            raise Skip(f"the secret has no {error}") from error
        except pymysql.err.OperationalError as error:
            if error.args[0] == pymysql.constants.ER.BAD_FIELD_ERROR:
                raise Wrong(str(error.args[-1]), "make migrate") from error
            raise Skip("the database does not answer here") from error
        except pymysql.MySQLError as error:
            raise Wrong(str(error.args[-1]), "make migrate") from error
        return "up to date"

    def _secret(self) -> dict[str, str | int]:
        try:
            text = self._aws.secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"]
            found: dict[str, str | int] = json.loads(text)
        except (ClientError, BotoCoreError, ValueError) as error:
            mend = f"aws secretsmanager get-secret-value --secret-id {DATABASE_SECRET}"
            raise Wrong(f"{DATABASE_SECRET} cannot be read: {error}", mend) from error
        return found

    def _running(self) -> str:
        instance = self._aws.find_instance()
        if instance is None or instance["State"]["Name"] != "running":
            state = instance["State"]["Name"] if instance else "not there"
            raise Skip(f"the appliance is {state}, as it is without work; `make start` lets this be looked at")
        return instance["InstanceId"]

    def _on_machine(self, script: str) -> run_command.Execution:
        return run_command.execute(self._aws, self._running(), script, _COMMAND_SECONDS)

    def _tags(self) -> dict[str, str]:
        instance = self._aws.find_instance()
        return {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])} if instance else {}

    def _held(self) -> dict[str, str]:
        """The tags of what a hold is written on."""
        group = fleet.find_group(self._aws) if is_fleet(self._aws) else None
        return {tag["Key"]: tag.get("Value", "") for tag in group.get("Tags", [])} if group else self._tags()

    def _sum(self, metric: metrics.Metric) -> float:
        start = self._now - timedelta(hours=1)
        points = metrics.read(self._aws, metric, "Sum", start=start, end=self._now, period=timedelta(minutes=5))
        return metrics.total(points, "Sum") or 0.0
