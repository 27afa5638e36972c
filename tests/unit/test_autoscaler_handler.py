"""A tick against a stubbed AWS: which calls are made, what is said, what is raised."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from autoscaler.decision import Action, Config
from autoscaler.handler import Settings, Trigger, audio_bytes, handler, tick, trigger_of
from autoscaler.instance_adapter import InstanceAdapter, Outcome

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/lessons"
MOST_CALLS = 4


@dataclass
class Aws:
    adapter: InstanceAdapter
    ec2: Stubber
    sqs: Stubber
    calls: list[str]

    def sees(self, state: str | None, backlog: int = 0, tags: dict[str, str] | None = None) -> None:
        counts = {"ApproximateNumberOfMessages": str(backlog)}
        counts |= {f"ApproximateNumberOfMessages{kind}": "0" for kind in ("NotVisible", "Delayed")}
        self.sqs.add_response("get_queue_attributes", {"Attributes": counts})
        raw = {
            "InstanceId": "i-1",
            "State": {"Name": state or ""},
            "LaunchTime": NOW - timedelta(hours=1),
            "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        }
        self.ec2.add_response("describe_instances", {"Reservations": [{"Instances": [raw]}] if state else []})

    def tick(self, *, dry_run: bool = False) -> dict[str, Any]:
        line = tick(self.adapter, Config(), trigger=Trigger.SCHEDULE, dry_run=dry_run, clock=lambda: NOW)
        self.ec2.assert_no_pending_responses()
        self.sqs.assert_no_pending_responses()
        assert len(self.calls) <= MOST_CALLS
        return line


@pytest.fixture(scope="module")
def session() -> boto3.session.Session:
    """One for all clients: it reads the services' definitions once."""
    return boto3.session.Session("x", "x", region_name="us-east-1")


@pytest.fixture
def aws(session: boto3.session.Session) -> Iterator[Aws]:
    ec2, sqs = session.client("ec2"), session.client("sqs")
    calls: list[str] = []
    for client in (ec2, sqs):
        client.meta.events.register("before-parameter-build", lambda model, **_: calls.append(model.name))
    with Stubber(ec2) as ec2_stub, Stubber(sqs) as sqs_stub:
        yield Aws(InstanceAdapter(ec2, sqs, QUEUE_URL), ec2_stub, sqs_stub, calls)


def test_a_stopped_instance_with_work_is_started_in_three_calls(aws: Aws) -> None:
    aws.sees("stopped", backlog=2)
    aws.ec2.add_response("start_instances", {}, {"InstanceIds": ["i-1"]})
    line = aws.tick()
    assert (line["action"], line["outcome"]) == (Action.START, Outcome.DONE)
    assert aws.calls == ["GetQueueAttributes", "DescribeInstances", "StartInstances"]


def test_a_restart_is_remembered_before_it_is_done(aws: Aws) -> None:
    aws.sees("running", backlog=1)
    aws.ec2.add_response("create_tags", {})
    aws.ec2.add_response("reboot_instances", {}, {"InstanceIds": ["i-1"]})
    assert aws.tick()["action"] == Action.RESTART
    assert aws.calls[2:] == ["CreateTags", "RebootInstances"]


def test_a_condition_that_no_longer_holds_is_removed(aws: Aws) -> None:
    aws.sees("stopped", tags={"classreflect:autoscaler": "idle since=2026-03-02T07:59:00Z ticks=2"})
    aws.ec2.add_response("delete_tags", {})
    line = aws.tick()
    assert line["snapshot"]["instance"]["condition"] == "idle since=2026-03-02T07:59:00Z ticks=2"
    assert line["condition"] is None


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("IncorrectInstanceState", Outcome.INCORRECT_STATE),
        ("InsufficientInstanceCapacity", Outcome.NO_CAPACITY),
    ],
)
def test_an_expected_refusal_is_an_outcome_with_a_metric(
    aws: Aws, capsys: pytest.CaptureFixture[str], code: str, outcome: Outcome
) -> None:
    aws.sees("stopped", backlog=1)
    aws.ec2.add_client_error("start_instances", code)
    assert aws.tick()["outcome"] == outcome
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    named = {Outcome.INCORRECT_STATE: "IncorrectStates", Outcome.NO_CAPACITY: "CapacityErrors"}
    assert {name: metrics.get(name) for name in named.values()} == {
        name: 1 if outcome is its else None for its, name in named.items()
    }


def test_an_idle_appliance_publishes_one_metric_because_each_costs(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.sees("stopped", backlog=0)
    aws.tick()
    [directive] = json.loads(capsys.readouterr().out.splitlines()[-1])["_aws"]["CloudWatchMetrics"]
    assert [metric["Name"] for metric in directive["Metrics"]] == ["InstanceRunning"]


def test_a_refusal_without_a_name_is_raised(aws: Aws) -> None:
    aws.sees("stopped", backlog=1)
    aws.ec2.add_client_error("start_instances", "UnauthorizedOperation")
    with pytest.raises(ClientError, match="UnauthorizedOperation"):
        aws.tick()


def test_a_trial_of_the_code_leaves_no_metric_that_could_raise_an_alarm(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.sees(None)
    tick(aws.adapter, Config(), trigger=Trigger.MANUAL, dry_run=True, measured=False, clock=lambda: NOW)
    assert "InstanceMissing" not in capsys.readouterr().out


@pytest.mark.parametrize("part", ["trial", "leaving", "by hand"])
def test_an_instance_of_a_roll_out_is_none_to_look_after(aws: Aws, part: str) -> None:
    aws.sees("running", backlog=1, tags={"classreflect:roll": part})
    assert aws.tick()["action"] == Action.ALARM


def test_a_missing_instance_is_an_alarm(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.sees(None, backlog=1)
    assert aws.tick()["action"] == Action.ALARM
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["InstanceMissing"] == 1


def test_a_dry_run_decides_and_touches_nothing(aws: Aws) -> None:
    aws.sees("stopped", backlog=1)
    line = aws.tick(dry_run=True)
    assert (line["action"], line["outcome"]) == (Action.START, Outcome.DRY_RUN)
    assert aws.calls == ["GetQueueAttributes", "DescribeInstances"]


def test_each_tick_says_what_it_saw_did_and_why_in_one_line(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.sees("stopped")
    aws.tick()
    said, metrics = map(json.loads, capsys.readouterr().out.splitlines())
    assert said["snapshot"]["instance"]["state"] == "stopped"
    assert (said["action"], said["reason"]) == ("none", "stopped, and nothing to do")
    declared = {metric["Name"] for metric in metrics["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert declared == set(metrics) - {"_aws"}


def test_an_unexpected_error_is_logged_and_raised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("QUEUE_URL", raising=False)
    with pytest.raises(KeyError, match="QUEUE_URL"):
        handler({"source": "aws.events"}, None)
    assert json.loads(capsys.readouterr().out)["event"] == "tick_failed"


def upload(key: str) -> dict[str, Any]:
    lesson = {"object": {"key": key, "size": 9}}
    return {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": lesson}]}


def test_only_an_uploaded_lesson_counts_as_work() -> None:
    assert audio_bytes(upload("audio-files/1/2/a%20b.mp3")) == 9
    assert audio_bytes(upload("transcripts/1/2/job.json")) is None
    assert audio_bytes({}) is None
    assert trigger_of(upload("transcripts/1/2/job.json")) is Trigger.UPLOAD
    assert trigger_of({"source": "aws.events"}) is Trigger.SCHEDULE
    assert trigger_of({}) is Trigger.MANUAL


def test_settings_come_from_the_functions_environment() -> None:
    settings = Settings.from_env(
        {"QUEUE_URL": "u", "DRY_RUN": "true", "IDLE_TICKS": "7", "MIN_UPTIME_MINUTES": "2"}
    )
    assert settings.dry_run
    assert settings.config == Config(idle_ticks=7, min_uptime=timedelta(minutes=2))
    assert not Settings.from_env({"QUEUE_URL": "u"}).dry_run
