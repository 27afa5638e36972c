"""The autoscaler's versions: what is not proven never ticks, and what ticked before can again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ops.autoscaler import release
from ops.autoscaler.package import AUTOSCALER, pack
from ops.autoscaler.release import KEPT, live_version, versions
from ops.aws.connection import Connection
from ops.aws.logs import read_events
from ops.aws.stacks import change_parameters
from ops.errors import OpsError
from ops.infrastructure import deploy, destroy
from ops.observability import decisions, doctor, status
from testbed.cloud import private_cloud, quiet, settings_of
from testbed.waiting import wait_until

pytestmark = pytest.mark.slow

TICK_LINE = '"event": "tick",'


@pytest.fixture(scope="module")
def aws(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A cloud that only these tests change, without an appliance: a tick then says that there is none."""
    with private_cloud(tmp_path_factory.mktemp("releases"), models_dir) as cloud:
        connection = Connection(settings_of(cloud))
        deploy.deploy_infra(connection, quiet)
        release.deploy(connection, quiet)
        yield connection


class Checkout:
    """The autoscaler's source, as an engineer changes it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder / "autoscaler"
        self._monkeypatch = monkeypatch

    def replace(self, old: str, new: str) -> None:
        """In the handler of a fresh copy."""
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(AUTOSCALER, self._folder)
        handler = self._folder / "handler.py"
        text = handler.read_text()
        assert old in text
        handler.write_text(text.replace(old, new, 1))
        self._monkeypatch.setattr(release, "pack", lambda: pack(self._folder))

    def edition(self, name: str) -> None:
        self.replace(TICK_LINE, f'{TICK_LINE} "edition": "{name}",')


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


def numbers(aws: Connection) -> list[int]:
    return [version.number for version in versions(aws, aws.autoscaler["FunctionName"])]


def live(aws: Connection) -> int:
    found = live_version(aws)
    assert found is not None
    return found.number


def tick(aws: Connection, trigger: str, since: datetime, seconds: float) -> dict[str, Any]:
    """The first tick of that trigger."""

    def seen() -> dict[str, Any] | None:
        events = (event.fields for event in read_events(aws, since))
        return next((e for e in events if (e.get("event"), e.get("trigger")) == ("tick", trigger)), None)

    return wait_until(f"a tick by {trigger}", seen, seconds)


def tick_of_an_upload(aws: Connection) -> dict[str, Any]:
    since = datetime.now(UTC)
    aws.s3.put_object(Bucket=aws.foundation["BucketName"], Key=f"audio-files/1/1/{since:%H%M%S%f}", Body=b"-")
    return tick(aws, "upload", since, 30)


def test_a_new_version_ticks_after_its_dry_run_and_a_rollback_brings_the_old_one_back_to_the_rule(
    aws: Connection, checkout: Checkout
) -> None:
    before = live(aws)
    checkout.edition("new")
    said: list[str] = []
    release.deploy(aws, said.append)
    assert live(aws) == before + 1
    assert any(line.startswith(f"dry run of version {before + 1}") for line in said)
    decision = decisions.read_decision(aws, datetime.now(UTC))
    assert decision is None or decision.outcome != "dry-run", "a trial is no decision"
    assert tick_of_an_upload(aws)["edition"] == "new"

    since = datetime.now(UTC)
    said.clear()
    release.rollback(aws, "", said.append)
    assert live(aws) == before
    assert f"version {before} " in said[-1]
    assert "edition" not in tick_of_an_upload(aws)
    later = datetime.now(UTC)
    assert "edition" not in tick(aws, "schedule", later, 130)
    old = [e.fields for e in read_events(aws, since) if e.fields.get("trigger") == "schedule"]
    assert all(fields.get("outcome") != "dry-run" for fields in old)


def test_an_update_of_the_stack_does_not_move_the_alias(aws: Connection, checkout: Checkout) -> None:
    checkout.edition("moved")
    release.deploy(aws, quiet)
    release.rollback(aws, "", quiet)
    before = live(aws)
    change_parameters(aws, aws.settings.autoscaler_stack, {"IdleTicks": "6"}, quiet)
    assert live(aws) == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("import json\n", "import json\nimport nowhere\n", "nowhere"),
        ("    trigger = trigger_of(event)\n", "    return {}\n", "no tick"),
        ("def handler(", "def handled(", "handler"),
    ],
    ids=["it does not load", "it decides nothing", "its entry is gone"],
)
def test_a_broken_version_never_ticks(aws: Connection, checkout: Checkout, old: str, new: str, words: str) -> None:
    before, there = live(aws), numbers(aws)
    checkout.replace(old, new)
    with pytest.raises(OpsError, match=f"(?s){words}.*version {before} .*goes on ticking"):
        release.deploy(aws, quiet)
    assert (live(aws), numbers(aws)) == (before, there)
    assert tick_of_an_upload(aws)["outcome"] != "dry-run"


def test_two_deployments_of_the_same_change_nothing(aws: Connection, checkout: Checkout) -> None:
    checkout.edition("same")
    release.deploy(aws, quiet)

    def all_there_is() -> tuple[object, ...]:
        stack = aws.cloudformation.describe_stacks(StackName=aws.settings.autoscaler_stack)["Stacks"][0]
        bucket = aws.foundation["BucketName"]
        told = aws.s3.get_bucket_notification_configuration(Bucket=bucket)["LambdaFunctionConfigurations"]
        return live(aws), numbers(aws), stack.get("LastUpdatedTime"), told

    before = all_there_is()
    release.deploy(aws, quiet)
    assert all_there_is() == before


def test_a_rollback_to_what_is_not_there_or_ticks_already_changes_nothing(aws: Connection) -> None:
    before = live(aws)
    with pytest.raises(OpsError, match="there is no version 999"):
        release.rollback(aws, "999", quiet)
    said: list[str] = []
    release.rollback(aws, str(before), said.append)
    assert live(aws) == before
    assert "already" in said[0]


def test_status_says_which_version_ticks(aws: Connection) -> None:
    assert (status.read_status(aws).version.autoscaler or "").startswith(f"version {live(aws)}")


def test_old_versions_are_pruned(aws: Connection, checkout: Checkout) -> None:
    function = aws.autoscaler["FunctionName"]
    for number in range(KEPT + 2):
        aws.functions.update_function_configuration(FunctionName=function, Description=f"change {number}")
        aws.functions.publish_version(FunctionName=function)
    before = live(aws)
    checkout.edition("pruned")
    release.deploy(aws, quiet)
    left = numbers(aws)
    assert live(aws) == max(left)
    assert len(left) == KEPT
    assert before not in left


def test_destroy_takes_all_versions_the_rule_and_the_notification(aws: Connection) -> None:
    function, bucket = aws.autoscaler["FunctionName"], aws.foundation["BucketName"]
    destroy.destroy(aws, quiet)
    with pytest.raises(aws.functions.exceptions.ResourceNotFoundException):
        aws.functions.get_function_configuration(FunctionName=function)
    assert aws.events.list_rules(NamePrefix="classreflect-whisper")["Rules"] == []
    assert "LambdaFunctionConfigurations" not in aws.s3.get_bucket_notification_configuration(Bucket=bucket)


def test_in_a_new_cloud_a_broken_autoscaler_does_not_tick_at_all(aws: Connection, checkout: Checkout) -> None:
    fresh = Connection(aws.settings)
    deploy.deploy_infra(fresh, quiet)
    checkout.replace("import json\n", "import json\nimport nowhere\n")
    with pytest.raises(OpsError, match="nothing ticks yet"):
        release.deploy(fresh, quiet)
    assert fresh.events.list_rules(NamePrefix="classreflect-whisper")["Rules"] == []
    rule = next(check for check in doctor.examine(fresh) if check.name == "rule")
    assert rule.remedy == "make deploy-lambda"
    with pytest.raises(OpsError, match="run `make deploy-lambda`"):
        release.rollback(fresh, "", quiet)
