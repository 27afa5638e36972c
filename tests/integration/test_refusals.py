"""Every verb without credentials, region, cloud, stack or instance: one clear line and exit code 1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from local.platform.ports import free_port
from ops.aws.connection import Connection
from ops.cli.application import application
from ops.cli.errors import run
from ops.settings import REPOSITORY

app = application()
SAMPLE = str(REPOSITORY / "samples" / "lesson.flac")
ARGUMENTS = {"submit": [SAMPLE], "destroy": ["--yes"], "test-ami": ["i-0123456789abcdef0"]}
CLOUDLESS = {"models", "validate-image", "verify-baked"}
"""They deal with files, or with a machine they are given, and know no cloud."""
AWS_ONLY = {"ami"}
NEED_STACK = [
    "deploy-lambda",
    "rollback-lambda",
    "launch",
    "replace",
    "roll",
    "submit",
    "status",
    "queue",
    "dlq",
    "redrive",
    "logs",
    "doctor",
    "destroy",
    "publish-model",
    "deploy-config",
    "deploy-processor",
    "rollback",
    "versions",
]
NEED_INSTANCE = ["start", "stop", "hold", "resume", "release", "session", "run-processor"]
DATABASE_ONLY = ["jobs", "watch", "transcript", "migrate"]


def verbs() -> list[str]:
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    return sorted(set(command.commands) - CLOUDLESS)


@pytest.fixture(autouse=True)
def nobodys_environment(models_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials anywhere, and no metadata service to ask for some."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def refusal(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["ops", verb, *ARGUMENTS.get(verb, [])])
    with pytest.raises(SystemExit) as ended:  # typer's own way out; ours returns
        sys.exit(run(app))
    said = capsys.readouterr()
    assert ended.value.code == 1, said
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1, said.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize("verb", verbs())
def test_without_credentials(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUD", "aws")
    assert "no AWS credentials" in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize("verb", verbs())
def test_with_a_profile_that_is_not_there(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUD", "aws")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "correct AWS_PROFILE in .env" in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize("verb", verbs())
def test_with_a_region_that_is_none(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_REGION", "somewhere")
    assert "aws_region" in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize("verb", [verb for verb in verbs() if verb not in AWS_ONLY])
def test_without_the_local_cloud(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLOUD", "local")
    monkeypatch.setenv("LOCAL_PORT", str(free_port()))
    assert "run `make up`" in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("verb", "setting", "elsewhere", "words"),
    [
        *((verb, "STACK_PREFIX", "not-deployed", "run `make deploy`") for verb in NEED_STACK),
        *((verb, "AWS_REGION", "eu-west-1", "run `make launch`") for verb in NEED_INSTANCE),
        ("alarms", "AWS_REGION", "eu-west-1", "run `make deploy`"),
        ("dashboard", "AWS_REGION", "eu-west-1", "make deploy-lambda"),
    ],
)
def test_where_nothing_is(
    verb: str,
    setting: str,
    elsewhere: str,
    words: str,
    deployed: Connection,
    command_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(command_environment, monkeypatch)
    monkeypatch.setenv(setting, elsewhere)
    assert words in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        *(
            (verb, "run `make deploy-infra deploy-lambda`")
            for verb in ("start", "stop", "hold", "resume", "release", "launch")
        ),
        *((verb, "run `make start`") for verb in ("session", "run-processor")),
        *((verb, "run `make deploy-infra deploy-lambda`") for verb in ("replace", "roll")),
        ("deploy-lambda", "run `make deploy-infra deploy-lambda`"),
    ],
)
def test_without_the_fleet_that_the_setting_asks_for(
    verb: str,
    words: str,
    deployed: Connection,
    command_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(command_environment, monkeypatch)
    monkeypatch.setenv("CAPACITY_MODE", "fleet")
    assert words in refusal(verb, monkeypatch, capsys)


@pytest.mark.parametrize(("name", "value"), [("CAPACITY_MODE", "many"), ("FLEET_MAXIMUM", "0")])
def test_a_fleet_setting_that_cannot_be(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert name.lower() in refusal("status", monkeypatch, capsys)


def use(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLOUD", "LOCAL_PORT", "LOCAL_DB_PORT", "LOCAL_ROOT"):
        monkeypatch.setenv(name, environment[name])


def test_no_verb_is_forgotten() -> None:
    elsewhere = {
        "deploy-infra",
        "alarms",
        "dashboard",
        "ami",
        "test-ami",
        "images",
        "prune-images",
    }
    """Those make the stacks, look where stacks write, or need none, and say so in words of their own."""
    assert {*NEED_STACK, *NEED_INSTANCE, *DATABASE_ONLY, *elsewhere} == set(verbs())
