"""`python -m bench.tick`: one tick of the autoscaler; the last line of its output names the AWS calls it made."""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3

from autoscaler.handler import handler


def main() -> None:
    calls: list[str] = []

    def note(model: Any, **_: Any) -> None:
        calls.append(model.name)

    # The handler makes its clients from boto3's default session, as a Lambda function does.
    boto3.setup_default_session()
    session: Any = boto3.DEFAULT_SESSION
    session.events.register("before-call", note)
    handler({}, None)
    sys.stdout.write(json.dumps(calls) + "\n")


if __name__ == "__main__":
    main()
