"""`python -m whisper_processor.crash_report UNIT`: report that the worker crashed in a loop.

The unit's OnFailure runs it. It reports to three places: the journal, which is shipped; the heartbeat, which keeps
the autoscaler from starting this machine again at once; and a metric with an alarm. It does not fail when AWS is
unavailable: the machine is stopped all the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from urllib3.exceptions import HTTPError

from contracts.metrics import CRASH_LOOP, NAMESPACE
from whisper_processor.aws.instance import Machine, Metadata

_CONFIG = Config(connect_timeout=5, read_timeout=5, retries={"max_attempts": 2})
_JOURNAL_LINES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("unit", help="the worker's systemd unit")
    parser.add_argument("--detail", default="", help="what happened, for the log")
    options = parser.parse_args()
    _log("crash_loop", "critical", detail=options.detail, last_words=_last_lines(options.unit))
    try:
        metadata = Metadata()
        session = boto3.session.Session(region_name=metadata.region)
        Machine(session.client("ec2", config=_CONFIG), metadata.instance_id).crashed()
        session.client("cloudwatch", config=_CONFIG).put_metric_data(
            Namespace=NAMESPACE, MetricData=[{"MetricName": CRASH_LOOP, "Value": 1, "Unit": "Count"}]
        )
    except (BotoCoreError, ClientError, HTTPError) as error:
        _log("crash_loop_not_told", "warning", error=str(error))


def _last_lines(unit: str) -> list[str]:
    journal = subprocess.run(
        ["/usr/bin/journalctl", "--unit", unit, "--lines", str(_JOURNAL_LINES), "--output", "cat", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    return journal.stdout.strip().splitlines()


def _log(event: str, level: str, **fields: object) -> None:
    sys.stdout.write(json.dumps({"event": event, "level": level, **fields}) + "\n")


if __name__ == "__main__":
    main()
