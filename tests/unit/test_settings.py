"""Each setting is said once, by its field. What is written from it or beside it must agree."""

from __future__ import annotations

import re
from datetime import timedelta
from unittest.mock import create_autospec

import pytest
from dotenv import dotenv_values

from autoscaler.decision import Config
from autoscaler.handler import config_from_env
from contracts.capacity import CapacityMode
from contracts.names import PARAMETER_PREFIX
from ops import env_example
from ops.autoscaler import release
from ops.aws.connection import Connection
from ops.capacity import fleet
from ops.infrastructure import deploy
from ops.settings import REPOSITORY, OpsSettings, Parameter, Stack, as_text
from tests.templates import template
from whisper_processor.settings import APPLIANCE_SETTINGS, Origin, Settings

LEFT_TO_THE_TEMPLATE = {
    Stack.FOUNDATION: {
        "BucketName": "CloudFormation chooses a name that is free; EXISTING_BUCKET_NAME adopts one",
        "DatabaseSecretName": "the backend's, by the name the worker expects",
        "CreateDatabaseSecret": "for a database that is not the backend's; given by hand",
        "AssignPublicIp": "only for a network without a NAT gateway; given by hand",
        "DatabaseCidr": "narrowed by hand",
        "DatabasePort": "MySQL's",
        "DatabaseSecurityGroupId": "the database's owner opens it, or gives its id by hand",
        "RootDeviceName": "the image's, which is always built on Ubuntu",
        "VolumeGiB": "what the image needs",
        "LogRetentionDays": "the same for everybody",
        "VisibilityTimeoutSeconds": "the queue's own; a worker asks for VISIBILITY_TIMEOUT_SECONDS itself",
        "MaxReceiveCount": "a safety net far above MAX_ATTEMPTS",
    },
    Stack.FLEET: {
        "ArmInstanceTypes": "those of the arm64 image, as FLEET_ARM_IMAGE_ID's comment says",
        "BootSeconds": "a grace period for EC2's health check, not the autoscaler's estimate",
    },
    Stack.AUTOSCALER: {
        "LiveVersion": "the release of the autoscaler sets it once a dry run has succeeded",
        "IdleTicks": "a default of the decision",
        "MinUptimeMinutes": "a default of the decision",
        "HeartbeatGraceMinutes": "a default of the decision",
        "BootGraceMinutes": "a default of the decision",
        "LogRetentionDays": "the same for everybody",
        "OneTickAtATime": "false only in an account that cannot reserve concurrency; given by hand",
    },
}
SETTINGS = OpsSettings.model_validate(
    {
        "capacity_mode": CapacityMode.FLEET,
        "image_id": "ami-1",
        "vpc_id": "vpc-1",
        "fleet_subnet_ids": "subnet-1",
    }
)
FED = [
    (name, mark.name, stack)
    for name, field in OpsSettings.model_fields.items()
    for mark in field.metadata
    if isinstance(mark, Parameter)
    for stack in mark.stacks
]
TUNES_THE_AUTOSCALER = [name for name, _, stack in FED if stack is Stack.AUTOSCALER and name.startswith("fleet_")]


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> dict[Stack, dict[str, str]]:
    """What a deployment gives each stack."""
    outputs = {name: f"the {name}" for name in template(Stack.FOUNDATION)["Outputs"]}
    aws = create_autospec(Connection, instance=True, settings=SETTINGS, foundation=outputs)
    monkeypatch.setattr(fleet, "group", lambda _aws: {"AutoScalingGroupName": "the group"})
    return {
        Stack.FOUNDATION: deploy.parameters(aws),
        Stack.FLEET: fleet.parameters(aws),
        Stack.AUTOSCALER: release.parameters(aws, "a key", lambda _text: None),
    }


def test_env_example_is_written_from_the_settings() -> None:
    assert env_example.FILE.read_text() == env_example.render(), "run `make format`"


def test_the_examples_values_are_the_defaults() -> None:
    example = {name.lower(): value for name, value in dotenv_values(env_example.FILE).items() if value}
    assert set(example) <= set(OpsSettings.model_fields)
    assert OpsSettings.model_validate(example) == OpsSettings.model_validate({})


@pytest.mark.parametrize("stack", Stack)
def test_a_template_has_each_parameter_it_is_given(stack: Stack, passed: dict[Stack, dict[str, str]]) -> None:
    assert set(passed[stack]) <= set(template(stack)["Parameters"])


@pytest.mark.parametrize("stack", Stack)
def test_a_parameter_is_given_or_left_to_the_template_for_a_reason(
    stack: Stack, passed: dict[Stack, dict[str, str]]
) -> None:
    given, left = set(passed[stack]), set(LEFT_TO_THE_TEMPLATE[stack])
    assert not given & left
    assert set(template(stack)["Parameters"]) == given | left


@pytest.mark.parametrize(("name", "parameter", "stack"), FED)
def test_a_templates_default_is_the_settings(name: str, parameter: str, stack: Stack) -> None:
    declared = template(stack)["Parameters"][parameter]
    if "Default" in declared:
        assert str(declared["Default"]) == as_text(OpsSettings.model_fields[name].default)


def test_the_foundation_writes_the_settings_that_are_its_own() -> None:
    resources = template(Stack.FOUNDATION)["Resources"].values()
    written = {r["Properties"]["Name"] for r in resources if r["Type"] == "AWS::SSM::Parameter"}
    assert written == {f"{PARAMETER_PREFIX}/{name.upper()}" for name in of_origin(Origin.STACK)}


def test_parameter_store_gets_the_operators_settings_and_no_others() -> None:
    ours = {name.lower() for name in APPLIANCE_SETTINGS}
    assert ours | set(of_origin(Origin.STACK)) | set(of_origin(Origin.MACHINE)) == set(Settings.model_fields)
    assert {"whisper_model", "database_tls", "stop_when_idle"} <= ours
    assert not ours & {"queue_url", "database_ca", "instance_id", "whisper_models_dir"}


def test_the_autoscalers_defaults_are_the_operators(passed: dict[Stack, dict[str, str]]) -> None:
    assert config_of(passed[Stack.AUTOSCALER]) == Config(capacity_mode=CapacityMode.FLEET)


@pytest.mark.parametrize("name", TUNES_THE_AUTOSCALER)
def test_a_fleet_setting_reaches_the_decision(name: str) -> None:
    default = getattr(SETTINGS, name)
    changed = SETTINGS.model_copy(update={name: default + 7}).parameters(Stack.AUTOSCALER)
    plain = config_of(SETTINGS.parameters(Stack.AUTOSCALER))
    config = config_of(changed)
    (field,) = [each for each in vars(config) if getattr(config, each) != getattr(plain, each)]
    value = getattr(config, field)
    assert value == (timedelta(minutes=default + 7) if isinstance(value, timedelta) else default + 7)


def test_a_fleets_settings_stay_out_of_a_stack_without_a_fleet() -> None:
    alone = SETTINGS.model_copy(update={"capacity_mode": CapacityMode.INSTANCE})
    assert alone.parameters(Stack.AUTOSCALER) == {
        "CapacityMode": "instance",
        "DryRun": "false",
        "MonthlyBudgetUsd": "0",
    }


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (True, "true"), (False, "false"), (0.5, "0.5"), (15.0, "15"), (0, "0")]
)
def test_a_setting_is_spelt_as_in_env(value: object, text: str) -> None:
    assert as_text(value) == text


def of_origin(origin: Origin) -> list[str]:
    return [name for name, field in Settings.model_fields.items() if origin in field.metadata]


def config_of(parameters: dict[str, str]) -> Config:
    """What the function reads from the environment that its template makes of these parameters."""
    found = template(Stack.AUTOSCALER)
    declared = found["Parameters"]
    variables = found["Resources"]["Function"]["Properties"]["Environment"]["Variables"]
    environment = {}
    for name, value in variables.items():
        parameter = value["Ref"]
        assert name == re.sub(r"(?<=[a-z])(?=[A-Z])", "_", parameter).upper()
        environment[name] = parameters.get(parameter, str(declared[parameter].get("Default", "")))
    return config_from_env(environment)


def test_the_repository_has_a_template_for_each_stack() -> None:
    assert {path.stem for path in (REPOSITORY / "infra").glob("*.yaml")} == set(Stack)
