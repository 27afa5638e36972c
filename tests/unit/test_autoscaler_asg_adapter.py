"""A fleet's tick against a stubbed AWS: what is asked, what is made of it, what is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from autoscaler.asg_adapter import GroupAdapter, is_silent_instance, lesson_minutes
from autoscaler.decision import Action, Config
from autoscaler.handler import Settings, Trigger, connect, tick
from autoscaler.instance_adapter import Outcome
from contracts.capacity import CapacityMode

NOW = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/lessons"
CONFIG = Config(
    capacity_mode=CapacityMode.FLEET, target_wait=12 * MINUTE, boot=2 * MINUTE, audio_minutes_per_minute=10
)
MOST_CALLS = 6


def launching(minutes_ago: float, cause: str, status: str = "Successful", message: str = "") -> dict[str, Any]:
    return {
        "ActivityId": "a",
        "AutoScalingGroupName": "fleet",
        "Description": "Launching a new EC2 instance: i-1",
        "Cause": f"At 2026-03-02T07:59:00Z {cause}",
        "StartTime": NOW - minutes_ago * MINUTE,
        "StatusCode": status,
        **({"StatusMessage": message} if message else {}),
    }


RAISED = "a user request explicitly set group desired capacity changing the desired capacity from 0 to 2"
LOWERED = "a user request explicitly set group desired capacity changing the desired capacity from 3 to 2"
REPLACED = "an instance was launched in response to an unhealthy instance needing to be replaced."


@dataclass
class Aws:
    fleet: GroupAdapter
    stubs: dict[str, Stubber]
    calls: list[str]

    def waits(self, backlog: int) -> None:
        counts = {"ApproximateNumberOfMessages": str(backlog)}
        counts |= {f"ApproximateNumberOfMessages{kind}": "0" for kind in ("NotVisible", "Delayed")}
        self.stubs["sqs"].add_response("get_queue_attributes", {"Attributes": counts})

    def group(self, desired: int, states: tuple[str, ...] = (), tags: dict[str, str] | None = None) -> None:
        group = {
            "AutoScalingGroupName": "fleet",
            "MinSize": 0,
            "MaxSize": 4,
            "DesiredCapacity": desired,
            "DefaultCooldown": 300,
            "AvailabilityZones": [],
            "HealthCheckType": "EC2",
            "CreatedTime": NOW,
            "Instances": [
                {
                    "InstanceId": f"i-{number}",
                    "LifecycleState": state,
                    "AvailabilityZone": "a",
                    "HealthStatus": "Healthy",
                    "ProtectedFromScaleIn": True,
                }
                for number, state in enumerate(states)
            ],
            "Tags": [{"Key": key, "Value": value} for key, value in (tags or {}).items()],
        }
        self.stubs["autoscaling"].add_response("describe_auto_scaling_groups", {"AutoScalingGroups": [group]})
        if states:
            raw = [
                {"InstanceId": f"i-{number}", "State": {"Name": "running"}, "LaunchTime": NOW - number * MINUTE}
                for number, _ in enumerate(states)
            ]
            self.stubs["ec2"].add_response("describe_instances", {"Reservations": [{"Instances": raw}]})

    def history(self, *activities: dict[str, Any]) -> None:
        self.stubs["autoscaling"].add_response("describe_scaling_activities", {"Activities": list(activities)})

    def measured(self, **results: dict[datetime, float]) -> None:
        answer = [
            {"Id": name, "Timestamps": list(points), "Values": list(points.values())}
            for name, points in results.items()
        ]
        self.stubs["cloudwatch"].add_response("get_metric_data", {"MetricDataResults": answer})

    def tick(self, **more: Any) -> dict[str, Any]:
        line = tick(self.fleet, CONFIG, trigger=Trigger.SCHEDULE, clock=lambda: NOW, **more)
        for stub in self.stubs.values():
            stub.assert_no_pending_responses()
        assert len(self.calls) <= MOST_CALLS
        return line


@pytest.fixture(scope="module")
def session() -> boto3.session.Session:
    """One for all clients: it reads the services' definitions once."""
    return boto3.session.Session("x", "x", region_name="us-east-1")


@pytest.fixture
def aws(session: boto3.session.Session) -> Aws:
    autoscaling, ec2 = session.client("autoscaling"), session.client("ec2")
    sqs, cloudwatch = session.client("sqs"), session.client("cloudwatch")
    clients: dict[str, Any] = {"autoscaling": autoscaling, "ec2": ec2, "sqs": sqs, "cloudwatch": cloudwatch}
    calls: list[str] = []
    for client in clients.values():
        client.meta.events.register("before-parameter-build", lambda model, **_: calls.append(model.name))
    stubs = {name: Stubber(client) for name, client in clients.items()}
    for stub in stubs.values():
        stub.activate()
    return Aws(GroupAdapter(autoscaling, ec2, sqs, cloudwatch, QUEUE_URL, "fleet"), stubs, calls)


def test_an_idle_fleet_is_seen_in_two_calls(aws: Aws) -> None:
    aws.waits(0)
    aws.group(0)
    line = aws.tick()
    assert (line["action"], line["outcome"]) == (Action.NONE, Outcome.NONE)
    assert aws.calls == ["GetQueueAttributes", "DescribeAutoScalingGroups"]


def test_a_backlog_of_audio_asks_for_workers(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.waits(6)
    aws.group(0)
    aws.history()
    aws.measured(audioseconds_sum={NOW - 60 * MINUTE: 6000.0}, audioseconds_samplecount={NOW - 60 * MINUTE: 2.0})
    aws.stubs["autoscaling"].add_response(
        "set_desired_capacity",
        {},
        {"AutoScalingGroupName": "fleet", "DesiredCapacity": 3, "HonorCooldown": False},
    )
    line = aws.tick()
    assert (line["action"], line["desired"], line["outcome"]) == (Action.SCALE_OUT, 3, Outcome.DONE)
    assert line["snapshot"]["audioMinutes"] == 300.0
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (metrics["FleetNeeded"], metrics["FleetDesired"], metrics["Starts"]) == (3, 3, 3)
    assert "FleetShort" not in metrics


def test_a_need_above_the_maximum_is_measured(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.waits(99)
    aws.group(4, ("InService",) * 4)
    aws.history()
    aws.measured()
    assert aws.tick()["action"] == Action.NONE
    metrics = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert metrics["FleetShort"] == metrics["FleetNeeded"] - 4 > 0
    assert (metrics["InstanceRunning"], metrics["UptimeHours"]) == (4, 0.05)


@pytest.mark.parametrize(
    ("activities", "when"),
    [
        pytest.param([], None, id="no history"),
        pytest.param([launching(2, RAISED)], NOW - 2 * MINUTE, id="raised"),
        pytest.param([launching(1, REPLACED), launching(9, RAISED)], NOW - 9 * MINUTE, id="a replacement is none"),
        pytest.param([launching(1, LOWERED)], None, id="lowered"),
    ],
)
def test_the_last_scale_out_is_read_from_the_groups_history(
    aws: Aws, activities: list[dict[str, Any]], when: datetime | None
) -> None:
    aws.waits(1)
    aws.group(2, ("InService", "Pending"))
    aws.history(*activities)
    aws.measured()
    group = aws.fleet.observe(NOW).group
    assert group is not None
    assert (group.last_scale_out, group.in_service, group.pending) == (when, 1, 1)


def test_a_launch_that_failed_is_an_outcome_with_a_metric_while_machines_are_missing(
    aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.waits(1)
    aws.group(2, ("InService",))
    aws.history(launching(1, RAISED, "Failed", "There is no Spot capacity available."))
    aws.measured()
    line = aws.tick()
    assert line["outcome"] == Outcome.NO_CAPACITY
    assert "no Spot capacity" in line["reason"]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["CapacityErrors"] == 1


def test_a_hold_is_read_from_the_groups_tags(aws: Aws) -> None:
    aws.waits(3)
    aws.group(0, tags={"classreflect:hold": "by=anna;until=2026-03-02T09:00:00Z"})
    aws.history()
    aws.measured()
    line = aws.tick()
    assert line["action"] == Action.NONE
    assert "anna" in line["reason"]


def test_after_a_crash_loop_an_empty_fleet_rests(aws: Aws) -> None:
    aws.waits(3)
    aws.group(0)
    aws.history()
    aws.measured(crashes={NOW - 5 * MINUTE: 1.0, NOW - 60 * MINUTE: 1.0})
    line = aws.tick()
    assert line["snapshot"]["group"]["lastCrash"] == "2026-03-02T07:55:00Z"
    assert line["action"] == Action.NONE


@pytest.mark.parametrize(
    ("up", "heartbeat", "silent"),
    [
        pytest.param(4, None, False, id="still booting"),
        pytest.param(6, None, True, id="never heard of"),
        pytest.param(60, "2026-03-02T07:58:00Z idle", False, id="alive"),
        pytest.param(60, "2026-03-02T07:50:00Z busy job 3%", True, id="not for ten minutes"),
    ],
)
def test_a_machine_that_gives_no_sign_of_life_is_told_of(up: float, heartbeat: str | None, silent: bool) -> None:
    tags = [{"Key": "classreflect:heartbeat", "Value": heartbeat}] if heartbeat else []
    machine: Any = {"State": {"Name": "running"}, "LaunchTime": NOW - up * MINUTE, "Tags": tags}
    assert is_silent_instance(machine, NOW, CONFIG) is silent
    assert not is_silent_instance(machine | {"State": {"Name": "terminated"}}, NOW, CONFIG)


def test_no_group_is_an_alarm(aws: Aws) -> None:
    aws.waits(1)
    aws.stubs["autoscaling"].add_response("describe_auto_scaling_groups", {"AutoScalingGroups": []})
    assert aws.tick()["action"] == Action.ALARM


@pytest.mark.parametrize(("code", "known"), [("ScalingActivityInProgress", True), ("AccessDenied", False)])
def test_a_refusal_with_a_name_is_an_outcome_and_any_other_is_raised(aws: Aws, code: str, known: bool) -> None:
    aws.waits(1)
    aws.group(0)
    aws.history()
    aws.measured()
    aws.stubs["autoscaling"].add_client_error("set_desired_capacity", code)
    if known:
        assert aws.tick()["outcome"] == Outcome.INCORRECT_STATE
    else:
        with pytest.raises(ClientError, match=code):
            aws.tick()


def test_a_dry_run_decides_and_touches_nothing(aws: Aws) -> None:
    aws.waits(1)
    aws.group(0)
    aws.history()
    aws.measured()
    line = aws.tick(dry_run=True)
    assert (line["action"], line["outcome"]) == (Action.SCALE_OUT, Outcome.DRY_RUN)


def test_an_upload_leaves_its_size_as_a_metric(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    aws.waits(0)
    aws.group(1)
    aws.history()
    aws.measured()
    aws.tick(upload_bytes=1_000_000)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["UploadBytes"] == 1_000_000


def test_a_lesson_is_as_long_as_the_days_mean_unless_uploads_are_unusually_large_or_small() -> None:
    assert lesson_minutes(audio_seconds=None, bytes_a_day=1.0, bytes_an_hour=1.0) is None
    assert lesson_minutes(audio_seconds=2700.0, bytes_a_day=None, bytes_an_hour=None) == 45
    assert lesson_minutes(audio_seconds=2700.0, bytes_a_day=40e6, bytes_an_hour=80e6) == 90
    assert lesson_minutes(audio_seconds=2700.0, bytes_a_day=40e6, bytes_an_hour=10e6) == 11.25
    assert lesson_minutes(audio_seconds=2700.0, bytes_a_day=40e6, bytes_an_hour=4e9) == 180, "a video"


def test_the_functions_environment_chooses_the_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    variables = {
        "QUEUE_URL": "u",
        "CAPACITY_MODE": "fleet",
        "GROUP_NAME": "fleet",
        "TARGET_WAIT_MINUTES": "30",
        "AUDIO_MINUTES_PER_MINUTE": "8.5",
        "SCALE_OUT_COOLDOWN_MINUTES": "0",
    }
    settings = Settings.from_env(variables)
    assert settings.config == Config(
        capacity_mode=CapacityMode.FLEET,
        target_wait=30 * MINUTE,
        audio_minutes_per_minute=8.5,
        scale_out_cooldown=timedelta(0),
    )
    assert isinstance(connect(settings), GroupAdapter)
