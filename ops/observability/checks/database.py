"""The third path: database errors."""

from __future__ import annotations

import json
import shlex

import pymysql
from botocore.exceptions import BotoCoreError, ClientError

from contracts.names import DATABASE_SECRET
from ops.observability.checks.base import Context, Skip, Step, Wrong, on_machine

_SECRET_KEYS = {"host", "port", "username", "password", "dbname"}
_COLUMNS = "id, status, progress, attempts, model, engine, language, duration_seconds, worker"


def check_secret(context: Context) -> str:
    missing = _SECRET_KEYS - set(_secret(context))
    if missing:
        remedy = f"aws secretsmanager put-secret-value --secret-id {DATABASE_SECRET} --secret-string file://…"
        raise Wrong(f"{DATABASE_SECRET} lacks {', '.join(sorted(missing))}", remedy)
    return f"{DATABASE_SECRET} is readable and complete"


def check_reachable_from_machine(context: Context) -> str:
    secret = _secret(context)
    if not {"host", "port"} <= set(secret):
        raise Skip("the secret does not say where it is")
    address = (str(secret["host"]), int(secret["port"]))
    program = f"import socket; socket.create_connection({address!r}, 5)"
    ended = on_machine(context, f"python3.11 -c {shlex.quote(program)}")
    if not ended.succeeded:
        remedy = "make deploy-infra with DatabaseSecurityGroupId, or admit its security group by hand"
        raise Wrong(f"{address[0]}:{address[1]} does not answer it", remedy)
    return f"{address[0]}:{address[1]}"


def check_reachable_from_here(context: Context) -> str:
    try:
        context.aws.database().close()
    except KeyError as error:
        raise Skip(f"the secret has no {error}") from error
    except pymysql.MySQLError as error:
        if error.args and error.args[0] == pymysql.constants.ER.ACCESS_DENIED_ERROR:
            raise Wrong("the credentials of the secret are refused", "correct the secret, or the user") from error
        if context.aws.settings.endpoint is None:
            raise Skip("no; only the appliance has to reach it") from error
        raise Wrong(f"it does not answer: {error.args[-1]}", "make up") from error
    return "yes"


def check_tables(context: Context) -> str:
    try:
        with context.aws.database() as database, database.cursor() as cursor:
            cursor.execute(f"SELECT {_COLUMNS} FROM audio_jobs LIMIT 1")  # noqa: S608 - constant names
    except KeyError as error:
        raise Skip(f"the secret has no {error}") from error
    except pymysql.err.OperationalError as error:
        if error.args[0] == pymysql.constants.ER.BAD_FIELD_ERROR:
            raise Wrong(str(error.args[-1]), "make migrate") from error
        raise Skip("the database does not answer here") from error
    except pymysql.MySQLError as error:
        raise Wrong(str(error.args[-1]), "make migrate") from error
    return "up to date"


def _secret(context: Context) -> dict[str, str | int]:
    try:
        text = context.aws.secrets.get_secret_value(SecretId=DATABASE_SECRET)["SecretString"]
        found: dict[str, str | int] = json.loads(text)
    except (ClientError, BotoCoreError, ValueError) as error:
        remedy = f"aws secretsmanager get-secret-value --secret-id {DATABASE_SECRET}"
        raise Wrong(f"{DATABASE_SECRET} cannot be read: {error}", remedy) from error
    return found


CHECKS: tuple[tuple[str, Step], ...] = (
    ("secret", check_secret),
    ("reachable from the appliance", check_reachable_from_machine),
    ("reachable from here", check_reachable_from_here),
    ("tables", check_tables),
)
