"""The updater as the boot unit runs it, with an AWS that does not respond: the worker waits for its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.test_updater import NEW, OLD, make_release
from whisper_processor.update.store import ReleaseStore

# Far below the unit's own limit, far above what three seconds of connecting and ten of reading add up to.
_PATIENCE = 240


@contextmanager
def refusing() -> Iterator[str]:
    """Nothing listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def silent() -> Iterator[str]:
    """It accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def run_updater(home: Path, endpoint: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "UPDATE_HOME": str(home),
        "UPDATE_STATE": str(home / "state"),
    }
    return subprocess.run(
        [sys.executable, "-m", "whisper_processor.update", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )


@pytest.mark.parametrize("broken", [refusing, silent], ids=lambda kind: kind.__name__)
def test_without_aws_it_ends_and_the_machine_keeps_its_release(tmp_path: Path, broken: type) -> None:
    make_release(tmp_path, OLD.name)
    make_release(tmp_path, NEW.name)
    store = ReleaseStore(tmp_path)
    store.point("proven", OLD.name)
    store.point("current", NEW.name)  # an update that was interrupted
    report = tmp_path / "report"
    with broken() as endpoint:
        ended = run_updater(tmp_path, endpoint, "boot", "--report", str(report))
    assert ended.returncode == 1, ended.stderr
    told = json.loads(report.read_text())
    assert (told["result"], told["current"]) == ("unreachable", OLD.name)
    assert json.loads((tmp_path / "state" / "report.json").read_text()) == told
    events = [json.loads(line)["event"] for line in ended.stdout.splitlines()]
    assert [event for event in events if event.startswith("update_")] == ["update_heal", "update_ended"]
