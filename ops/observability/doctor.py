"""The three troubleshooting paths of the manual, walked in order: start of the instance, processor, database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from botocore.exceptions import ClientError

from ops.aws import run_command
from ops.aws.connection import Connection
from ops.errors import OpsError
from ops.observability.checks import database, processor, starting
from ops.observability.checks.base import Context, Skip, Step, Wrong

NOT_STARTING, NOT_RUNNING, DATABASE = (
    "The instance does not start",
    "The processor does not run",
    "Database errors",
)
_PATHS = {NOT_STARTING: starting.CHECKS, NOT_RUNNING: processor.CHECKS, DATABASE: database.CHECKS}


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
    remedy: str = ""
    """The command that fixes it; empty when there is nothing to fix."""


def examine(aws: Connection) -> Iterator[Check]:
    """Walk the paths, one check after the other; a check that cannot be made is a finding too.

    Raises OpsError when there is nothing to examine, because nothing is deployed.
    """
    context = Context(aws, datetime.now(UTC))
    starting.check_stacks(context)
    for path, checks in _PATHS.items():
        for name, step in checks:
            yield _make(path, name, step, context)


def _make(path: str, name: str, step: Step, context: Context) -> Check:
    try:
        return Check(path, name, Verdict.OK, step(context))
    except Wrong as wrong:
        return Check(path, name, Verdict.WRONG, str(wrong), wrong.remedy)
    except Skip as skip:
        return Check(path, name, Verdict.SKIPPED, str(skip))
    except run_command.NotReachable as error:
        return Check(path, name, Verdict.SKIPPED, str(error).partition(":")[0])
    except (OpsError, ClientError) as error:
        return Check(path, name, Verdict.WRONG, str(error), "make deploy")
