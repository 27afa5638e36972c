"""The verbs as an operator runs them: bad input is one clear line and a non-zero exit."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.tags import HOLD_TAG
from local.platform.cloud import LocalCloud
from ops.aws.connection import Connection, tags_of
from ops.settings import REPOSITORY
from testbed.system import kept_up

SAMPLE = REPOSITORY / "samples" / "lesson.flac"


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line a refused command ends with."""
    assert result.returncode == 1, result
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_a_missing_file_is_named(deployed: Connection, command_environment: dict[str, str]) -> None:
    assert "no such file: nowhere.mp3" in refusal(run(command_environment, "ops", "submit", "nowhere.mp3"))


def test_a_file_that_is_not_audio_is_refused_before_it_is_uploaded(
    deployed: Connection, command_environment: dict[str, str]
) -> None:
    assert "not a recording" in refusal(run(command_environment, "ops", "submit", "README.md"))


def test_an_unknown_model_is_refused_with_the_known_ones(
    deployed: Connection, command_environment: dict[str, str]
) -> None:
    line = refusal(run(command_environment, "ops", "submit", str(SAMPLE), "--model", "enormous"))
    assert "enormous" in line
    assert "base" in line


def test_a_job_that_is_not_there_is_named(deployed: Connection, command_environment: dict[str, str]) -> None:
    assert "there is no job nope" in refusal(run(command_environment, "ops", "transcript", "nope"))


@pytest.mark.parametrize("verb", [("ops", "status"), ("ops", "queue"), ("ops", "submit", str(SAMPLE))])
def test_without_a_cloud_each_verb_says_how_to_get_one(
    verb: tuple[str, ...], command_environment: dict[str, str]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        nowhere = command_environment | {"LOCAL_PORT": str(unused.getsockname()[1])}
        assert "run `make up`" in refusal(run(nowhere, *verb))


def test_a_taken_port_is_named_with_the_setting_that_changes_it(
    command_environment: dict[str, str], tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        elsewhere = command_environment | {"LOCAL_PORT": port, "LOCAL_ROOT": str(tmp_path)}
        other = socket.socket()
        other.bind(("127.0.0.1", 0))
        elsewhere["LOCAL_DB_PORT"] = str(other.getsockname()[1])
        other.close()
        line = refusal(run(elsewhere, "local", "up"))
    assert f"port {port} is taken" in line
    assert "LOCAL_PORT" in line


def test_a_setting_that_makes_no_sense_is_refused(command_environment: dict[str, str]) -> None:
    assert "local_port" in refusal(run(command_environment | {"LOCAL_PORT": "many"}, "ops", "status")).lower()


def test_the_local_verbs_keep_their_hands_off_aws(command_environment: dict[str, str]) -> None:
    assert "CLOUD=aws" in refusal(run(command_environment | {"CLOUD": "aws"}, "local", "clean"))


def test_status_for_scripts_is_json_and_its_exit_code_tells_of_problems(
    deployed: Connection, command_environment: dict[str, str]
) -> None:
    result = run(command_environment, "ops", "status", "--json")
    now = json.loads(result.stdout)
    assert now["appliance"]["state"] in {"stopped", "pending", "running", "stopping"}
    assert result.returncode == (1 if now["problems"] else 0)


def test_up_is_safe_to_repeat(
    deployed: Connection, local_cloud: LocalCloud, command_environment: dict[str, str]
) -> None:
    before = local_cloud.emulator.process()
    environment = command_environment | {"MODELS_DIR": str(local_cloud.models_dir)}
    assert run(environment, "local", "up").returncode == 0
    assert local_cloud.emulator.process() == before


def test_the_old_name_of_a_verb_does_the_same_and_names_the_new_one(
    deployed: Connection, command_environment: dict[str, str]
) -> None:
    assert run(command_environment, "ops", "hold").returncode == 0
    assert HOLD_TAG in tags_of(deployed.instance())
    ended = run(command_environment, "ops", "release")
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0].strip() == "`make release` is now called `make resume`"
    assert HOLD_TAG not in tags_of(deployed.instance())


def test_a_session_is_a_shell_on_the_appliance(deployed: Connection, command_environment: dict[str, str]) -> None:
    with kept_up(deployed):
        told = subprocess.run(
            [sys.executable, "-m", "ops", "session"],
            cwd=REPOSITORY,
            env=command_environment,
            input="systemctl is-active whisper-processor\nexit\n",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert told.returncode == 0, told
    assert "\nactive\n" in told.stdout
