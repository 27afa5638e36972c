"""The autoscaler's function in the emulator: its cold and warm invocations, and the calls of a tick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.results import Ticks
from bench.worker import Site
from contracts.tags import HOLD_TAG
from ops.autoscaler import release
from ops.autoscaler.package import pack
from ops.capacity import appliance, launch
from ops.errors import OpsError
from ops.releases.settings import write_settings
from ops.settings import REPOSITORY
from testbed.cloud import quiet

Say = Callable[[str], None]
_SHORT_POLLS = {"POLL_WAIT_SECONDS": "1", "EMPTY_POLLS": "1"}
_SECONDS = 120.0


def measure(site: Site, repeats: int, say: Say) -> Ticks:
    """Deploy the autoscaler and an appliance, let it come to rest, then invoke and count."""
    aws = site.aws
    say("autoscaler: deploying it, and an appliance for it to look at")
    release.deploy(aws, quiet)
    write_settings(aws, _SHORT_POLLS, quiet)
    launch.launch(aws, quiet)
    appliance.wait_for(aws, "stopped", _SECONDS)
    # From here on only what is measured may act.
    aws.events.disable_rule(Name=aws.autoscaler["RuleName"])
    cold, warm = [], []
    for number in range(repeats):
        _make_cold(site, number)
        cold.append(_invoke(site))
        warm += [_invoke(site) for _ in range(3)]
    say(f"autoscaler: {len(cold)} cold and {len(warm)} warm invocations; counting the calls of a tick")
    return Ticks(
        archive_bytes=len(pack()), cold_seconds=tuple(cold), warm_seconds=tuple(warm), calls=_calls_by_state(site)
    )


def _make_cold(site: Site, number: int) -> None:
    """A changed environment makes Lambda, and the emulator, start a new process for the next invocation."""
    functions, name = site.aws.functions, site.aws.autoscaler["FunctionName"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    changed = {**variables, "MEASUREMENT": str(number)}
    functions.update_function_configuration(FunctionName=name, Environment={"Variables": changed})
    functions.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )


def _invoke(site: Site) -> float:
    started = time.monotonic()
    answer = site.aws.functions.invoke(FunctionName=site.aws.autoscaler["FunctionName"], Payload=b"{}")
    seconds = time.monotonic() - started
    if "FunctionError" in answer:
        raise OpsError(f"the autoscaler failed: {answer['Payload'].read().decode()[:200]}")
    return seconds


def _calls_by_state(site: Site) -> dict[str, tuple[str, ...]]:
    aws = site.aws
    found = {"stopped, nothing to do": _calls(site)}
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    held = {"Key": HOLD_TAG, "Value": f"by=measurement;until={until}"}
    instance_id = aws.instance()["InstanceId"]
    site.send("cold-start-measurement", "audio-files/1/1/none")  # a backlog of one; the worker will refuse it
    aws.ec2.create_tags(Resources=[instance_id], Tags=[held])  # type: ignore[list-item]
    found["stopped, a lesson waits, held"] = _calls(site)
    aws.ec2.delete_tags(Resources=[instance_id], Tags=[{"Key": HOLD_TAG}])
    found["stopped, a lesson waits"] = _calls(site)
    appliance.wait_for(aws, "running", _SECONDS)
    found["running"] = _calls(site)
    return found


def _calls(site: Site) -> tuple[str, ...]:
    """One tick of the very handler, with its deployed settings, in a process that counts what it asks of AWS."""
    aws = site.aws
    name = aws.autoscaler["FunctionName"]
    variables = aws.functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "lambda")]),
        **variables,
        **site.cloud.client_environment(),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "bench.tick"], env=environment, capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise OpsError(f"a tick failed: {' | '.join(ran.stderr.strip().splitlines()[-2:])}")
    return tuple(json.loads(ran.stdout.splitlines()[-1]))
